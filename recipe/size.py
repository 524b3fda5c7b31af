"""How large a model is: parameters and floating-point operations, from its shape alone. No torch."""

from dataclasses import dataclass

from recipe.config import ModelConfig


@dataclass(frozen=True)
class ModelSize:
    """Parameter counts; the embedding counts once when it is tied."""

    num_embedding: int
    num_head: int
    num_layer: int
    num_layers: int
    num_final_norm: int

    @property
    def num_non_embedding(self) -> int:
        return self.num_layer * self.num_layers + self.num_final_norm

    @property
    def num_total(self) -> int:
        return self.num_embedding + self.num_head + self.num_non_embedding


def model_size(model: ModelConfig) -> ModelSize:
    """Counts without vocabulary padding; Xmodel-2-1.2B: 1,151,485,440 non-embedding and 100,270,080 embedding."""
    h, f, d = model.hidden_size, model.ffn_hidden_size, model.head_size
    attention = h * d * (model.num_heads + 2 * model.num_kv_heads) + model.num_heads * d * h
    layer = attention + 3 * h * f + 2 * h
    vocabulary = model.vocab_size * h
    return ModelSize(vocabulary, 0 if model.tied else vocabulary, layer, model.num_layers, h)


def model_flops_per_token(model: ModelConfig, *, seq_length_tokens: int | None = None) -> float:
    """Forward and backward operations a token: 6N (head included) plus attention, causal halving counted.

    6N as in Kaplan et al. (arXiv 2001.08361); attention 12·L·h·s, halved since a token sees s/2 others on average.
    """
    size = model_size(model)
    seq = seq_length_tokens or model.seq_length_tokens
    matrices = size.num_layer * model.num_layers + model.vocab_size * model.hidden_size
    return 6.0 * matrices + 6.0 * model.num_layers * model.hidden_size * seq
