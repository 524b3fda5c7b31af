"""What `windtunnel doctor` looks at: facts about this machine, and faults that would stop a run."""

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recipe.prepare import versions
from recipe.units import format_bytes

ROOMS = ("recipe", "megatron_patches", "data_prep", "launch")
LEAST_FREE_BYTES = 2 << 30


def examine() -> tuple[dict[str, Any], list[str]]:
    """(facts, faults); an empty second list means that the demo can run here."""
    from megatron_patches import upstream
    from megatron_patches.capabilities import rows
    from megatron_patches.catalog import catalogue

    faults = shadowed_rooms()
    for patch in catalogue():
        if upstream.in_range(patch):
            faults += _complaint(patch)
    free = shutil.disk_usage(".").free
    if free < LEAST_FREE_BYTES:
        faults.append(f"disk: {format_bytes(free)} free here; at least {format_bytes(LEAST_FREE_BYTES)} are needed")
    facts = {
        "machine": {
            "system": platform.platform(), "cores": len(os.sched_getaffinity(0)), "devices": _devices(),
            "disk free": format_bytes(free), "c++ compiler": shutil.which("c++") or "none: tokenizing takes the plain path",
        },
        "versions": versions(), "backends": rows(), "num_patches": len(catalogue()),
    }
    return facts, faults


def shadowed_rooms() -> list[str]:
    """The rooms' names are generic: each must come from this checkout, not from a package of the same name."""
    home = Path(__file__).resolve().parent.parent
    faults = []
    for room in ROOMS:
        spec = find_spec(room)
        where = Path(spec.origin).resolve().parent.parent if spec and spec.origin else None
        if where != home:
            faults.append(f"package {room} comes from {where}, not from {home}; uninstall the other, or run from the checkout")
    return faults


def _complaint(patch: Any) -> list[str]:
    from megatron_patches import upstream
    from megatron_patches.errors import PatchError

    try:
        upstream.check(patch)
    except PatchError as error:
        return [f"patch {patch.name}: {error}"]
    return []


def _devices() -> str:
    import torch

    if not torch.cuda.is_available():
        return "no GPU: gloo on CPU"
    return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
