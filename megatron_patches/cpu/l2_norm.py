"""The norm of many tensors, without apex, is left on the CPU."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    from megatron_patches.cpu.device_names import torch_on_cpu

    return torch_on_cpu(original, option)


_MODULE = "megatron.core.utils"
PATCH = Patch(
    name="cpu/l2_norm",
    target=f"{_MODULE}:torch",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "0d8edf21944b", "0.19.2": "0d8edf21944b"},
    why='local_multi_tensor_l2_norm puts its answer on device="cuda"',
    retires_when="it takes the device from the tensors",
    install=_install,
    watch=(f"{_MODULE}:local_multi_tensor_l2_norm",),
)
