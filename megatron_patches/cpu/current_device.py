"""`torch.cuda.current_device()` names the CPU: Megatron-Core allocates every buffer on what it returns."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    import torch

    cpu = torch.device("cpu")
    return lambda: cpu


PATCH = Patch(
    name="cpu/current_device",
    target="torch.cuda:current_device",
    rung=Rung.REPLACE,
    why="pipeline buffers, gathers and rotary tables are allocated on it, and it raises without a GPU",
    retires_when="megatron-core asks its accelerator, not torch.cuda, for the device",
    install=_install,
)
