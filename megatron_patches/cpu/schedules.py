"""The pipeline schedules count tokens on the CPU."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    from megatron_patches.cpu.device_names import torch_on_cpu

    return torch_on_cpu(original, option)


_MODULE = "megatron.core.pipeline_parallel.schedules"
PATCH = Patch(
    name="cpu/schedules",
    target=f"{_MODULE}:torch",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "d82277487d81", "0.19.2": "ac9297d411da"},
    why='all three schedules begin with torch.zeros([], device="cuda")',
    retires_when="the schedules take the device from the model",
    install=_install,
    watch=(
        f"{_MODULE}:forward_backward_no_pipelining",
        f"{_MODULE}:forward_backward_pipelining_without_interleaving",
        f"{_MODULE}:forward_backward_pipelining_with_interleaving",
    ),
)
