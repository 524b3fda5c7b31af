"""Upstream's unfused attention builds its default causal mask on the CPU."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    from megatron_patches.cpu.device_names import torch_on_cpu

    return torch_on_cpu(original, option)


_MODULE = "megatron.core.transformer.utils"
PATCH = Patch(
    name="cpu/causal_mask",
    target=f"{_MODULE}:torch",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "d31e5a9a5259", "0.19.2": "d31e5a9a5259"},
    why='get_default_causal_mask spells device="cuda"; our SDPA needs no mask, upstream\'s DotProductAttention does',
    retires_when="the mask is built where the scores are",
    install=_install,
    watch=(f"{_MODULE}:get_default_causal_mask", f"{_MODULE}:get_sliding_window_causal_mask"),
)
