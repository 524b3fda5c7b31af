"""Clipping scales gradients on the CPU: upstream asks for a type that only CUDA tensors have."""

from typing import Any

from megatron_patches.cpu.tensor_type import naming_cuda
from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    return naming_cuda(original)


PATCH = Patch(
    name="cpu/clip_scale",
    target="megatron.core.optimizer.clip_grads:clip_grad_by_total_norm_fp32",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "17507b31dc8f", "0.19.2": "1103a6cf5165"},
    why="it asserts that every gradient is a 'torch.cuda.FloatTensor'",
    retires_when="it compares dtypes",
    install=_install,
)
