"""Both namings hold the same numbers."""

import pytest
import torch

from recipe.config import ModelConfig
from recipe.export.llama import correspondences, join, llama_config, megatron_shape, split
from recipe.size import model_size

MODEL = ModelConfig(
    num_layers=2, hidden_size=24, ffn_hidden_size=40, num_heads=6, num_kv_heads=2, seq_length_tokens=8, vocab_size=50, tied=True
)


def test_qkv_is_taken_apart_by_group() -> None:
    """Rows are numbered; Megatron lays out, per KV head, its query heads, then k, then v."""
    head, per_group = MODEL.head_size, 3
    rows = torch.arange((6 + 2 * 2) * head).float()[:, None].expand(-1, 24)
    q, k, v = split(rows, "qkv", MODEL)
    group = (per_group + 2) * head
    assert k[:, 0].tolist() == [g * group + per_group * head + i for g in range(2) for i in range(head)]
    assert v[:, 0].tolist() == [g * group + (per_group + 1) * head + i for g in range(2) for i in range(head)]
    assert q[:, 0].tolist() == [g * group + i for g in range(2) for i in range(per_group * head)]


@pytest.mark.parametrize("kind", ["embedding", "norm", "qkv", "proj", "fc1", "fc2", "final_norm"])
def test_join_undoes_split_bit_for_bit(kind: str) -> None:
    tensor = torch.randn(megatron_shape(kind, MODEL))
    assert torch.equal(join(split(tensor, kind, MODEL), kind, MODEL), tensor)


@pytest.mark.parametrize("tied", [True, False])
def test_names_and_parameters_are_transformers_own(tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    model = MODEL.model_copy(update={"tied": tied})
    llama = LlamaForCausalLM(LlamaConfig(**llama_config(model, dtype="float32")))
    ours = {name for pair in correspondences(model) for name in pair.llama}
    assert ours == {name for name, _ in llama.named_parameters()}
    assert sum(parameter.numel() for parameter in llama.parameters()) == model_size(model).num_total
