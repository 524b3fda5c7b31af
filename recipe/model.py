"""Builds this rank's part of the model from a resolved run: Megatron-Core's GPTModel with the muP table attached."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core import parallel_state as ps
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_patches.loss.head import attach as attach_loss
from megatron_patches.mup.init import initialise
from megatron_patches.mup.model import attach, build_spec, configure
from megatron_patches.mup.rules import Mup
from recipe.lower import mup_of
from recipe.resolve import ResolvedRun

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_ACTIVATIONS: dict[str, Callable] = {"silu": F.silu}


def initialise_parallel(resolved: ResolvedRun) -> None:
    """Megatron-Core's process groups for this layout, and its named random states (its embedding draws from one under sp)."""
    layout = resolved.layout
    ps.initialize_model_parallel(
        tensor_model_parallel_size=layout.tp,
        pipeline_model_parallel_size=layout.pp,
        virtual_pipeline_model_parallel_size=layout.vp if layout.vp > 1 else None,
        context_parallel_size=layout.cp,
        create_gloo_process_groups=False,
    )
    model_parallel_cuda_manual_seed(resolved.config.seed)


def transformer_config(arguments: dict[str, Any]) -> TransformerConfig:
    """The lowered arguments (names of dtypes and functions) as upstream's object."""
    named = dict(arguments)
    for key in ("params_dtype", "pipeline_dtype"):
        named[key] = _DTYPES[named[key]]
    named["activation_func"] = _ACTIVATIONS[named["activation_func"]]
    return TransformerConfig(**named)


def build_chunks(
    resolved: ResolvedRun, arguments: dict[str, Any], *, backends: dict[str, str], device: str = "cpu"
) -> list[GPTModel]:
    """This rank's model chunks (several under interleaving), initialised, in training precision, on the device."""
    mup, config = mup_of(resolved.config), transformer_config(arguments)
    configure(config, mup)
    if backends["cross_entropy"] == "transformer_engine":
        config.cross_entropy_loss_fusion, config.cross_entropy_fusion_impl = True, "te"
    vp = resolved.layout.vp
    return [
        _chunk(resolved, config, mup, backends=backends, device=device, vp_stage=stage if vp > 1 else None)
        for stage in range(vp)
    ]


def set_rope_base(chunks: Sequence[GPTModel], base: float) -> None:
    """Rotary frequencies of another base from here on, as a model built with it has them (arXiv 2309.16039)."""
    for chunk in chunks:
        rotary, size = chunk.rotary_pos_emb, chunk.config.kv_channels
        # on the CPU, as at the start (its first use moves it), so that a resumed run has the same bits
        rotary.inv_freq = 1.0 / (base ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
        rotary.forward.cache_clear()  # upstream keeps the tables of each length


def _chunk(
    resolved: ResolvedRun, config: TransformerConfig, mup: Mup, *, backends: dict[str, str], device: str, vp_stage: int | None
) -> GPTModel:
    model = resolved.config.model
    chunk = GPTModel(
        config,
        build_spec(config, mup=mup, attention=backends["attention"], norm=backends["norm"], vp_stage=vp_stage),
        vocab_size=resolved.padded_vocab_size,
        max_sequence_length=model.seq_length_tokens,
        pre_process=ps.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage),
        post_process=ps.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage),
        position_embedding_type="rope",
        rotary_base=model.rope_base,
        share_embeddings_and_output_weights=model.tied,
        vp_stage=vp_stage,
    )
    attach(chunk, mup)
    initialise(chunk, mup, resolved.config.seed, config, vocab_size=model.vocab_size)
    if chunk.post_process:
        attach_loss(chunk, vocab_size=model.vocab_size, chunked=backends["cross_entropy"] == "chunked")
    chunk = chunk.to(device)
    for parameter in chunk.parameters():
        if parameter.dtype == torch.bfloat16:
            parameter.grad_dtype = torch.float32  # accumulate over micro batches in fp32 (torch ≥ 2.13)
    return chunk
