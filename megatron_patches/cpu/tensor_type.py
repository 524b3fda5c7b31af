"""The distributed optimizer asks a parameter's type by a name that only CUDA tensors have."""

from functools import wraps
from typing import Any

from megatron_patches.patch import Patch, Rung

_CLASS = "megatron.core.optimizer.distrib_optimizer:DistributedOptimizer"


def naming_cuda(function: Any) -> Any:
    """`function`, during which `Tensor.type()` of a CPU tensor answers as a CUDA tensor's would."""

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        import torch

        own = torch.Tensor.type

        def named(self: Any, *rest: Any, **more: Any) -> Any:
            answer = own(self, *rest, **more)
            return answer.replace("torch.", "torch.cuda.", 1) if isinstance(answer, str) else answer

        torch.Tensor.type = named  # type: ignore[method-assign]
        try:
            return function(*args, **kwargs)
        finally:
            torch.Tensor.type = own  # type: ignore[method-assign]

    return called


def _install(original: Any, option: Any) -> Any:
    return staticmethod(naming_cuda(original))  # upstream's is a classmethod, and `original` is bound already


PATCH = Patch(
    name="cpu/tensor_type",
    target=f"{_CLASS}._build_model_and_main_param_groups",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "b5050dc3cdf2", "0.19.2": "2b4c124d74e9"},
    why="parameters are sorted by 'torch.cuda.FloatTensor' and the like; anything else is refused",
    retires_when="the optimizer compares dtypes",
    install=_install,
)
