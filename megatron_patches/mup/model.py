"""Builds a muP GPTModel from upstream's parts: layer spec, multipliers, softmax scale.

spec = build_spec(config, mup=mup)
model = GPTModel(configure(config, mup), spec, ...)
attach(model, mup)
"""

from typing import Any

import torch

from megatron_patches.errors import PatchError
from megatron_patches.mup.embedding import scale_output
from megatron_patches.mup.logits import scale_input
from megatron_patches.mup.residual import ScaledBiasDropoutAdd
from megatron_patches.mup.rules import Mup


def configure(config: Any, mup: Mup) -> Any:
    """Writes what a TransformerConfig can express (the softmax scale) into it and returns it.

    Raises:
        PatchError: Upstream's own muP is on, or the config's sizes aren't the table's.
    """
    if getattr(config, "use_mup", False):
        raise PatchError("TransformerConfig.use_mup is on: upstream's muP and this one would both scale; leave it off")
    for name, ours, theirs in (("width", mup.width, config.hidden_size), ("depth", mup.depth, config.num_layers)):
        if ours != theirs:
            raise PatchError(f"mup.{name}={ours} but the model's is {theirs}")
    if mup.softmax_scale is not None:
        if mup.head_dim != config.kv_channels:
            raise PatchError(f"mup.head_dim={mup.head_dim} but the model's kv_channels is {config.kv_channels}")
        config.softmax_scale = mup.softmax_scale
    return config


def build_spec(config: Any, *, mup: Mup, attention: str = "sdpa", norm: str = "torch", vp_stage: int | None = None) -> Any:
    """The block's layer spec for this pipeline stage, as GPTModel's `transformer_layer_spec`.

    Args:
        config: Upstream's TransformerConfig.
        attention: `sdpa`, `flash_attn`, `unfused` (upstream's DotProductAttention) or `transformer_engine`.
        norm: `torch` or `transformer_engine`; see `capabilities.py`.
        vp_stage: Virtual stage, for interleaved pipelines.
    """
    from megatron.core.models.gpt.gpt_layer_specs import (
        get_gpt_layer_local_spec,
        get_gpt_layer_with_transformer_engine_spec,
    )
    from megatron.core.transformer.spec_utils import ModuleSpec
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build

    if "transformer_engine" in (attention, norm) and attention != norm:
        raise PatchError(f"attention={attention!r} with norm={norm!r}: Transformer Engine comes as a whole layer or not at all")
    if attention == "transformer_engine":
        layer = get_gpt_layer_with_transformer_engine_spec()
        final_norm = _te_norm()
    else:
        layer = get_gpt_layer_local_spec(normalization=config.normalization)
        final_norm = _localise(layer, config, attention)
    if mup.residual_mult != 1:
        scaled = ModuleSpec(module=ScaledBiasDropoutAdd, params={"mult": mup.residual_mult})
        layer.submodules.self_attn_bda = layer.submodules.mlp_bda = scaled
    count = get_num_layers_to_build(config, vp_stage=vp_stage)
    return TransformerBlockSubmodules(layer_specs=[layer] * count, layer_norm=final_norm)


def _localise(layer: Any, config: Any, attention: str) -> Any:
    """Puts our attention and norm into upstream's local layer spec; returns the final norm's class."""
    from megatron_patches.attention.core import FlashCoreAttention, SdpaCoreAttention
    from megatron_patches.cpu.rmsnorm import RmsNorm

    cores = {"sdpa": SdpaCoreAttention, "flash_attn": FlashCoreAttention}
    if attention in cores:
        layer.submodules.self_attention.submodules.core_attention = cores[attention]
    elif attention != "unfused":
        raise PatchError(f"attention={attention!r} is unknown; one of: {', '.join(cores)}, unfused, transformer_engine")
    if config.normalization != "RMSNorm":
        return layer.submodules.input_layernorm
    layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = RmsNorm
    return RmsNorm


def _te_norm() -> Any:
    from megatron.core.extensions.transformer_engine import TENorm

    return TENorm


def attach(model: torch.nn.Module, mup: Mup) -> torch.nn.Module:
    """Puts the forward multipliers onto a GPTModel (one pipeline stage of it). Attaching the same table again does nothing.

    Raises:
        PatchError: Another table is attached, or the layer spec carries another residual multiplier.
    """
    before = getattr(model, "mup", None)
    if before is not None:
        if before != mup:
            raise PatchError(f"the model carries another muP table already: {before}, not {mup}")
        return model
    model.mup = mup  # type: ignore[assignment]
    for layer in model.decoder.layers:  # type: ignore[union-attr]
        for name in ("self_attn_bda", "mlp_bda"):
            _scale_branch(layer, name, mup.residual_mult)
    if model.pre_process:
        scale_output(model.embedding, mup.embedding_mult)
    if model.post_process:
        scale_input(model.output_layer, mup.logits_mult)
    return model


def _scale_branch(layer: Any, name: str, mult: float) -> None:
    there = getattr(layer, name)
    if not isinstance(there, ScaledBiasDropoutAdd):
        if mult != 1:  # at 1 upstream's own function stays, so that nothing changes there
            setattr(layer, name, ScaledBiasDropoutAdd(mult))
    elif there.mult != mult:
        raise PatchError(f"the layer spec's {name} scales by {there.mult}, the table by {mult}")
