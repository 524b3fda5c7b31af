"""Residual scaling: what attention and MLP add to the stream is × residual_mult first."""

from collections.abc import Callable
from typing import Any

from megatron_patches.patch import Patch, Rung


class ScaledBiasDropoutAdd:
    """What a layer spec's `self_attn_bda` / `mlp_bda` may be: upstream's function with a scaled branch."""

    def __init__(self, mult: float) -> None:
        self.mult = mult

    def __call__(self, training: bool, fused: bool) -> Callable[[tuple[Any, Any], Any, float], Any]:
        """Returns f((x, bias), residual, dropout_prob) -> residual + dropout(mult * (x + bias))."""
        import torch
        from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add

        upstream, mult = get_bias_dropout_add(training, fused), self.mult

        def scaled(x_with_bias: tuple[Any, Any], residual: Any, prob: float) -> Any:
            x, bias = x_with_bias
            if bias is None and (prob == 0 or not training):
                return torch.add(residual.to(x.dtype), x, alpha=mult)  # one kernel, no scaled copy
            return upstream((x * mult, None if bias is None else bias * mult), residual, prob)

        return scaled


PATCH = Patch(
    name="mup/residual",
    target="megatron.core.fusions.fused_bias_dropout:get_bias_dropout_add",
    rung=Rung.SUBCLASS,
    fingerprints={"0.16.1": "75cb0fb47af3", "0.19.2": "3b9b97efdf6f"},
    why="upstream never scales residual branches with depth; the layer spec's bias-dropout-add is the place for it",
    retires_when="TransformerConfig has a residual multiplier",
    watch=(
        "megatron.core.fusions.fused_bias_dropout:get_bias_dropout_add",
        "megatron.core.fusions.fused_bias_dropout:_bias_dropout_add_func",
    ),
)
