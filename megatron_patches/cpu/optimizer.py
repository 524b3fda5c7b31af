"""Megatron-Core's own optimizers make their buffers on the CPU."""

from typing import Any

from megatron_patches.patch import Patch, Rung

CPU_DDP: dict[str, bool] = {"use_distributed_optimizer": True, "overlap_grad_reduce": False}


def _install(original: Any, option: Any) -> Any:
    from megatron_patches.cpu.device_names import torch_on_cpu

    return torch_on_cpu(original, option)


_MODULE = "megatron.core.optimizer.optimizer"
PATCH = Patch(
    name="cpu/optimizer",
    target=f"{_MODULE}:torch",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "037c3745a8d1", "0.19.2": "037c3745a8d1"},
    why='found_inf flags and scales are made with device="cuda"',
    retires_when="the optimizers take the device from the parameters",
    install=_install,
    watch=(f"{_MODULE}:MixedPrecisionOptimizer.__init__", f"{_MODULE}:FP32Optimizer.__init__"),
)
