"""A stand-in for the name `torch` inside one upstream module, where `device="cuda"` means the CPU.

A TorchFunctionMode would do the same for everything, at a cost on every operation of the training step; this costs
one attribute lookup in the few modules that spell the device out.
"""

from types import ModuleType
from typing import Any

import torch

_FACTORIES = ("zeros", "ones", "empty", "tensor", "full", "arange")


class TorchOnCpu(ModuleType):
    """`torch` with factory functions that put `device="cuda"` on the CPU and pin nothing."""

    def __init__(self) -> None:
        super().__init__("torch")
        for name in _FACTORIES:
            setattr(self, name, _on_cpu(getattr(torch, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _on_cpu(factory: Any) -> Any:
    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        if "cuda" in str(kwargs.get("device")):
            kwargs["device"] = "cpu"
        kwargs.pop("pin_memory", None)  # memory can be pinned for a GPU only
        return factory(*args, **kwargs)

    return make


def torch_on_cpu(original: Any, option: Any) -> Any:
    """`Patch.install` for a module's own `torch`."""
    return TorchOnCpu()
