"""Gradient norms of Megatron-Core's own optimizers are summed on the CPU."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    from megatron_patches.cpu.device_names import torch_on_cpu

    return torch_on_cpu(original, option)


_MODULE = "megatron.core.optimizer.clip_grads"
PATCH = Patch(
    name="cpu/clip_grads",
    target=f"{_MODULE}:torch",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "ccf4c1ffd695", "0.19.2": "aa958c5a1655"},
    why='the norm and the overflow buffer are made with device="cuda"',
    retires_when="get_grad_norm_fp32 takes the device from the parameters",
    install=_install,
    watch=(f"{_MODULE}:get_grad_norm_fp32",),
)
