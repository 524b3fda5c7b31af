"""DeepSpeed on CPUs compiles a shared-memory extension at start that only its inference collectives use."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _without_shared_memory(compatible: dict[str, bool], _option: Any) -> dict[str, bool]:
    return compatible | {"deepspeed_shm_comm": False}


PATCH = Patch(
    name="cpu/deepspeed_startup",
    target="deepspeed.ops:__compatible_ops__",
    rung=Rung.REPLACE,
    why="On CPUs DeepSpeed's start compiles an extension, a minute at first, into the user's home; training never calls it.",
    retires_when="DeepSpeed builds it where inference_all_reduce is first called.",
    install=_without_shared_memory,
)
