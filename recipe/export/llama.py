"""The two namings of one model: Megatron-Core's GPTModel and Hugging Face's Llama, and how their tensors correspond.

Both use the half-rotation form of RoPE, so heads are only regrouped, never permuted inside. Megatron fuses q, k, v by group
(for each KV head: its query heads, then k, then v) and gate with up; Llama keeps them apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recipe.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDING = "embedding.word_embeddings.weight"
FINAL_NORM = "decoder.final_layernorm.weight"
HEAD = "output_layer.weight"

HF_EMBEDDING = "model.embed_tokens.weight"
HF_FINAL_NORM = "model.norm.weight"
HF_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Correspondence:
    """One Megatron tensor and the Llama tensors that together hold the same numbers."""

    megatron: str
    llama: tuple[str, ...]
    kind: str
    """embedding, head, norm, final_norm, qkv, proj, fc1 or fc2."""


def correspondences(model: ModelConfig) -> Iterator[Correspondence]:
    """In the order of the forward pass; a tied head has no tensor of its own."""
    yield Correspondence(EMBEDDING, (HF_EMBEDDING,), "embedding")
    for layer in range(model.num_layers):
        ours, theirs = f"decoder.layers.{layer}.", f"model.layers.{layer}."
        attention = tuple(f"{theirs}self_attn.{part}_proj.weight" for part in "qkv")
        mlp = tuple(f"{theirs}mlp.{part}_proj.weight" for part in ("gate", "up"))
        yield Correspondence(ours + "input_layernorm.weight", (theirs + "input_layernorm.weight",), "norm")
        yield Correspondence(ours + "self_attention.linear_qkv.weight", attention, "qkv")
        yield Correspondence(ours + "self_attention.linear_proj.weight", (theirs + "self_attn.o_proj.weight",), "proj")
        yield Correspondence(ours + "pre_mlp_layernorm.weight", (theirs + "post_attention_layernorm.weight",), "norm")
        yield Correspondence(ours + "mlp.linear_fc1.weight", mlp, "fc1")
        yield Correspondence(ours + "mlp.linear_fc2.weight", (theirs + "mlp.down_proj.weight",), "fc2")
    yield Correspondence(FINAL_NORM, (HF_FINAL_NORM,), "final_norm")
    if not model.tied:
        yield Correspondence(HEAD, (HF_HEAD,), "head")


def megatron_shape(kind: str, model: ModelConfig) -> tuple[int, ...]:
    """Logical shape of a Megatron tensor of this kind, without vocabulary padding."""
    hidden, head = model.hidden_size, model.head_size
    return {
        "embedding": (model.vocab_size, hidden),
        "head": (model.vocab_size, hidden),
        "norm": (hidden,),
        "final_norm": (hidden,),
        "qkv": (head * (model.num_heads + 2 * model.num_kv_heads), hidden),
        "proj": (hidden, head * model.num_heads),
        "fc1": (2 * model.ffn_hidden_size, hidden),
        "fc2": (hidden, model.ffn_hidden_size),
    }[kind]


def split(tensor: "Tensor", kind: str, model: ModelConfig) -> "tuple[Tensor, ...]":
    """Megatron → Llama: q, k, v of `linear_qkv` and gate, up of `linear_fc1`; other tensors as they are."""
    if kind == "qkv":
        per_group, head = model.num_heads // model.num_kv_heads, model.head_size
        groups = tensor.view(model.num_kv_heads, per_group + 2, head, -1)  # [kv, q/kv + k + v, d, h]
        q, k, v = groups.split([per_group, 1, 1], dim=1)
        return tuple(part.reshape(-1, tensor.shape[1]).contiguous() for part in (q, k, v))
    if kind == "fc1":
        return tuple(part.contiguous() for part in tensor.chunk(2))
    return (tensor.contiguous(),)


def join(parts: "tuple[Tensor, ...]", kind: str, model: ModelConfig) -> "Tensor":
    """Llama → Megatron: the inverse of `split`."""
    import torch

    if kind == "qkv":
        head, hidden = model.head_size, parts[0].shape[1]
        grouped = [part.view(model.num_kv_heads, -1, head, hidden) for part in parts]
        return torch.cat(grouped, dim=1).reshape(-1, hidden)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def llama_config(model: ModelConfig, *, dtype: str, **extra: Any) -> dict[str, Any]:
    """`config.json` of a plain LlamaForCausalLM; both spellings of RoPE's base, for transformers 4 and 5."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.ffn_hidden_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": model.seq_length_tokens,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": model.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": model.tied,
        "dtype": dtype,
        "torch_dtype": dtype,
    } | extra
