"""Gradient reductions of megatron-core 0.19 ask for the current stream, which a CPU has no need of."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    import torch

    return torch.cpu.current_stream  # its streams wait for nothing


PATCH = Patch(
    name="cpu/current_stream",
    target="torch.cuda:current_stream",
    rung=Rung.REPLACE,
    why="DistributedDataParallel's start_grad_sync fetches the stream even where it then waits for no event",
    retires_when="it asks only where CUDA graphs are on",
    install=_install,
)
