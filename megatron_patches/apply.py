"""Installs the differences, once, undoably.

with megatron_patches.apply(cpu=True, mup=Mup(...)):
    model = GPTModel(...)
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, TracebackType
from typing import Any

from megatron_patches import upstream
from megatron_patches.catalog import catalogue
from megatron_patches.errors import PatchError
from megatron_patches.patch import Patch

_MISSING = object()
_live: "list[Applied]" = []


class Applied:
    """Patches in force; `undo()` (or leaving a `with`) puts back exactly what was there."""

    def __init__(self) -> None:
        self.patches: list[Patch] = []
        self._undo: list[Callable[[], None]] = []

    def undo(self) -> None:
        """Restores upstream, newest change first. Calling it twice does nothing."""
        while self._undo:
            self._undo.pop()()
        self.patches.clear()
        if self in _live:
            _live.remove(self)

    def __enter__(self) -> "Applied":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.undo()

    def _set(self, owner: Any, name: str, value: Any) -> None:
        before = vars(owner).get(name, _MISSING)  # vars: an inherited attribute must be deleted again, not copied

        def restore() -> None:
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)

        setattr(owner, name, value)
        self._undo.append(restore)

    def _install(self, patch: Patch, option: Any) -> None:
        upstream.check(patch)
        self.patches.append(patch)
        if patch.install is None:
            return
        owner, name = resolve(patch.target)
        original = getattr(owner, name)
        replacement = patch.install(original, option)
        self._set(owner, name, replacement)
        for module in importers(name, original):
            self._set(module, name, replacement)


def importers(name: str, original: Any) -> Iterator[ModuleType]:
    """Modules that took a megatron-core function or class over by `from … import`, the caller's script among them."""
    if str(getattr(original, "__module__", "")).startswith("megatron."):
        for module in list(sys.modules.values()):
            if isinstance(module, ModuleType) and vars(module).get(name) is original:
                yield module


def in_force() -> bool:
    """Whether patches are applied in this process."""
    return bool(_live)


def resolve(target: str) -> tuple[Any, str]:
    """Imports a target's module and returns (object that holds the attribute, attribute's name).

    Raises:
        PatchError: The attribute isn't there.
    """
    module, path = target.split(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent, None)
    if not hasattr(owner, name):
        raise PatchError(f"{target} does not exist in the installed packages")
    return owner, name


def apply(*, mup: Any = None, wsd: Any = None, cpu: bool | None = None, attention: Any = None) -> Applied:
    """Installs the patches of the areas asked for.

    Args:
        mup: A `megatron_patches.mup.rules.Mup`: every GPTModel built from now on gets its multipliers, its initial
            values (seeded by torch's own seed) and its optimizer groups. A script that calls `mup.model.attach`,
            `mup.init.initialise` and `mup.groups.parameter_groups` itself leaves this out.
        wsd: `True` or a `megatron_patches.wsd.half_life.HalfLife`: `lr_wsd_decay_style="half_life"` in
            OptimizerParamScheduler, whose state becomes complete.
        cpu: True installs the CPU platform; None does where torch sees no GPU.
        attention: `"sdpa"` puts torch's scaled_dot_product_attention into upstream's local layer specs.

    Returns:
        What was applied, to be undone.

    Raises:
        PatchError: Patches are in force already, a version is out of range, a symbol is gone or reads differently.
    """
    if _live:
        raise PatchError("patches are in force already; undo() them first")
    if cpu is None:
        import torch

        cpu = not torch.cuda.is_available()
    options = {"cpu": cpu or None, "attention": attention, "mup": mup, "wsd": wsd}
    applied = Applied()
    _live.append(applied)
    try:
        for patch in catalogue():
            if options.get(patch.area) is not None and upstream.in_range(patch):
                applied._install(patch, options[patch.area])
    except BaseException:
        applied.undo()
        raise
    return applied
