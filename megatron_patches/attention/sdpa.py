"""Core attention is torch's scaled_dot_product_attention."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    from megatron_patches.attention.core import SdpaCoreAttention
    from megatron_patches.errors import PatchError

    if option not in ("sdpa", True):
        raise PatchError(f"attention={option!r} is unknown; apply() knows 'sdpa'")
    return lambda self: SdpaCoreAttention


PATCH = Patch(
    name="attention/sdpa",
    target="megatron.core.models.backends:LocalSpecProvider.core_attention",
    rung=Rung.SUBCLASS,
    fingerprints={"0.16.1": "cf4601e0da2a", "0.19.2": "cf4601e0da2a"},
    why="upstream's local attention materialises s × s scores and repeats K and V; flash attention needs Transformer Engine",
    retires_when="megatron-core's local spec offers torch's scaled_dot_product_attention",
    install=_install,
    watch=(
        "megatron.core.transformer.dot_product_attention:DotProductAttention.__init__",
        "megatron.core.transformer.dot_product_attention:DotProductAttention.forward",
    ),
)
