"""Which backend carries out attention, norm, Adam and cross-entropy here: chosen by what is there, or forced.

    choose("attention")                  # the best that works on this machine
    choose("attention", forced="unfused")

One table for the model, the loss, the optimizer and `windtunnel doctor`. Rows that need a GPU were not run by us; they are
chosen by the conditions that their projects document.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from megatron_patches.errors import PatchError


@dataclass(frozen=True)
class Backend:
    """A way to carry out one operation.

    Attributes:
        missing: Returns why it can't be used here ("" if it can).
    """

    operation: str
    name: str
    gives: str
    missing: Callable[[], str]


@dataclass(frozen=True)
class Choice:
    """What was chosen and why."""

    operation: str
    name: str
    reason: str


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _needs(package: str, *, gpu: bool = True) -> Callable[[], str]:
    def missing() -> str:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
        return "" if not gpu or _gpu() else "torch sees no GPU"

    return missing


def _needs_compiler() -> str:
    import shutil

    return "" if shutil.which("nvcc" if _gpu() else "c++") else "no compiler for its extension"


def _nothing() -> str:
    return ""


# Best first, for each operation.
BACKENDS = (
    Backend("attention", "transformer_engine", "fused layers, FP8, context parallelism", _needs("transformer_engine")),
    Backend("attention", "sdpa", "torch's flash kernels, on CPUs and GPUs", _nothing),
    Backend("attention", "flash_attn", "flash-attn's kernels, packed documents in one call", _needs("flash_attn")),
    Backend("attention", "unfused", "upstream's DotProductAttention, s × s scores in memory", _nothing),
    Backend("norm", "transformer_engine", "norm fused with the linear layer behind it", _needs("transformer_engine")),
    Backend("norm", "torch", "torch's RMSNorm kernel", _nothing),
    Backend("adam", "transformer_engine", "FusedAdam, multi-tensor", _needs("transformer_engine")),
    Backend("adam", "apex", "FusedAdam, multi-tensor", _needs("apex")),
    Backend("adam", "torch", "torch.optim.AdamW(fused=True)", _nothing),
    Backend("adam", "deepspeed", "FusedAdam or, on the host, CPUAdam; compiled at first use", _needs_compiler),
    Backend("cross_entropy", "chunked", "head and loss together, full logits never exist", _nothing),
    Backend("cross_entropy", "transformer_engine", "fused, on full logits", _needs("transformer_engine")),
    Backend("cross_entropy", "unfused", "upstream's vocabulary-parallel cross-entropy", _nothing),
)
OPERATIONS = tuple(dict.fromkeys(backend.operation for backend in BACKENDS))


def names(operation: str) -> tuple[str, ...]:
    """The backends of an operation, whether they can be used here or not."""
    return tuple(backend.name for backend in BACKENDS if backend.operation == operation)


def choose(operation: str, *, forced: str | None = None) -> Choice:
    """Picks a backend.

    Raises:
        PatchError: The operation or the forced backend is unknown, or it can't be used here.
    """
    rows = [backend for backend in BACKENDS if backend.operation == operation]
    if not rows:
        raise PatchError(f"no operation {operation!r}; one of: {', '.join(OPERATIONS)}")
    if forced is None:
        missing = [f"{row.name}: {row.missing()}" for row in rows if row.missing()]
        best = next(row for row in rows if not row.missing())
        return Choice(operation, best.name, "; ".join(missing) or "best there is")
    found = next((row for row in rows if row.name == forced), None)
    if found is None:
        raise PatchError(f"{operation}={forced!r} is unknown; one of: {', '.join(row.name for row in rows)}")
    if found.missing():
        available = ", ".join(row.name for row in rows if not row.missing())
        raise PatchError(f"{operation}={forced!r} can't be used here: {found.missing()}; available: {available}")
    return Choice(operation, forced, "forced by config")


def choose_all(forced: dict[str, str | None]) -> dict[str, str]:
    """Operation → backend, for the whole table; `forced` may name some."""
    attention, norm = choose_layer(attention=forced.get("attention"), norm=forced.get("norm"))
    others = {name: choose(name, forced=forced.get(name)).name for name in OPERATIONS if name not in ("attention", "norm")}
    return {"attention": attention, "norm": norm, **others}


def choose_layer(*, attention: str | None = None, norm: str | None = None) -> tuple[str, str]:
    """Attention and norm together, as Transformer Engine comes as a whole layer: a forced one draws the other along.

    Raises:
        PatchError: Both are forced and only one is Transformer Engine.
    """
    whole = "transformer_engine"
    first, second = choose("attention", forced=attention).name, choose("norm", forced=norm).name
    if (first == whole) == (second == whole):
        return first, second
    if attention and norm:
        raise PatchError(f"attention={attention!r} with norm={norm!r}: Transformer Engine comes as a whole layer")
    if attention:
        return first, whole if first == whole else "torch"
    return whole if second == whole else "sdpa", second


def rows() -> list[dict[str, str]]:
    """The whole table with its verdicts, for `doctor`."""
    chosen = {operation: choose(operation).name for operation in OPERATIONS}
    return [
        {
            "operation": backend.operation,
            "backend": backend.name,
            "gives": backend.gives,
            "status": "chosen" if chosen[backend.operation] == backend.name else backend.missing() or "available",
        }
        for backend in BACKENDS
    ]
