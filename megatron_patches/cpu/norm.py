"""Upstream's torch RMSNorm, allowed under sequence parallelism."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    def new(cls: type, config: Any, hidden_size: int, eps: float = 1e-5, **rest: Any) -> Any:
        if config.normalization == "RMSNorm" and config.sequence_parallel:
            from megatron_patches.cpu.rmsnorm import RmsNorm

            return RmsNorm(config=config, hidden_size=hidden_size, eps=eps)
        return original(cls, config, hidden_size, eps=eps, **rest)

    return staticmethod(new)


PATCH = Patch(
    name="cpu/norm",
    target="megatron.core.transformer.torch_norm:WrappedTorchNorm.__new__",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "70908b273cb8", "0.19.2": "c4de19c5ef8d"},
    why="the torch norm refuses sequence parallelism, only because nothing marks its gain for the gradient all-reduce",
    retires_when="WrappedTorchNorm marks its parameters `sequence_parallel`",
    install=_install,
)
