"""What the planner reasons about: a model's shape, a layout, an engine's habits. Plain data, no torch.

Every field of `Layouts` is a numpy array, so that each formula of the planner is written once and prices one layout or a
hundred thousand. A single layout is a table of one row.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from recipe.config import ModelConfig, ParallelConfig

RECOMPUTE = ("none", "selective", "full")


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only transformer. `gated`: SwiGLU (three matrices in the MLP) instead of GELU (two, and biases)."""

    num_layers: int
    hidden: int
    ffn: int
    num_heads: int
    num_kv_heads: int
    vocab: int
    seq_tokens: int
    tied: bool = True
    gated: bool = True

    @classmethod
    def of_recipe(cls, model: "ModelConfig") -> Self:
        return cls(
            num_layers=model.num_layers, hidden=model.hidden_size, ffn=model.ffn_hidden_size, num_heads=model.num_heads,
            num_kv_heads=model.num_kv_heads, vocab=model.vocab_size, seq_tokens=model.seq_length_tokens, tied=model.tied,
        )  # fmt: skip

    @property
    def head_size(self) -> int:
        return self.hidden // self.num_heads

    @property
    def kv_hidden(self) -> int:
        return self.head_size * self.num_kv_heads

    @property
    def layer_matrix_params(self) -> int:
        """Weights of one layer that are divided by tensor parallelism."""
        attention = 2 * self.hidden * (self.hidden + self.kv_hidden)
        return attention + (3 if self.gated else 2) * self.hidden * self.ffn

    @property
    def layer_params(self) -> int:
        """Matrices, two norm gains, and (GELU models) biases: 4h of norms, 3h + 2kv + h + f + h of linears."""
        extra = 2 * self.hidden if self.gated else 4 * self.hidden + 3 * self.hidden + 2 * self.kv_hidden + self.ffn
        return self.layer_matrix_params + extra

    @property
    def vocab_params(self) -> int:
        return self.vocab * self.hidden

    @property
    def num_params(self) -> int:
        return self.num_layers * self.layer_params + self.vocab_params * (1 if self.tied else 2) + self.hidden

    def flops_per_token(self, *, convention: str = "6N+attention") -> float:
        """Forward and backward operations a token, by the convention that a figure was published in.

        - ``6N``: six per weight that takes part in a matrix product, the output head included (arXiv 2001.08361).
        - ``6N+attention``: plus 12·L·h·s for scores and values, without halving for the causal mask
          (Megatron-LM, nanotron, torchtitan, llm-foundry).
        - ``6N+causal``: attention halved, as this project's own training log counts it.
        - ``hardware``: 96·B·s·L·h²(1 + s/6h + V/16Lh) of arXiv 2104.04473, equation 3: full recomputation counted.
        """
        matrices = self.num_layers * self.layer_matrix_params
        attention = 12.0 * self.num_layers * self.hidden * self.seq_tokens
        if convention == "hardware":
            return 8.0 * matrices + 6.0 * self.vocab_params + attention * 4 / 3
        share = {"6N": 0.0, "6N+attention": 1.0, "6N+causal": 0.5}[convention]
        return 6.0 * (matrices + self.vocab_params) + share * attention


@dataclass(frozen=True)
class Layouts:
    """A table of layouts, one per row. All columns are integer arrays of one length; recompute indexes RECOMPUTE."""

    tp: np.ndarray
    pp: np.ndarray
    vp: np.ndarray
    cp: np.ndarray
    dp: np.ndarray
    sp: np.ndarray
    zero: np.ndarray
    mbs: np.ndarray
    recompute: np.ndarray
    num_microbatches: np.ndarray
    offload: np.ndarray

    @classmethod
    def one(
        cls, *, tp: int = 1, pp: int = 1, vp: int = 1, cp: int = 1, dp: int = 1, sp: bool | None = None, zero: int = 1,
        mbs: int = 1, recompute: str = "none", num_microbatches: int = 1, offload: bool = False,
    ) -> Self:  # fmt: skip
        """A table of one row. sp: on wherever tp > 1, where not given."""
        sp = tp > 1 if sp is None else sp
        values = (tp, pp, vp, cp, dp, sp, zero, mbs, RECOMPUTE.index(recompute), num_microbatches, offload)
        return cls(*(np.array([int(value)]) for value in values))

    @classmethod
    def of_recipe(cls, parallel: "ParallelConfig", *, num_gpus: int, micro_seqs: int, global_seqs: int) -> Self:
        dp = num_gpus // (parallel.tp * parallel.pp * parallel.cp)
        return cls.one(
            tp=parallel.tp, pp=parallel.pp, vp=parallel.vp, cp=parallel.cp, dp=dp, sp=parallel.sp, zero=parallel.zero,
            mbs=micro_seqs, recompute=parallel.recompute, num_microbatches=max(1, global_seqs // max(1, dp * micro_seqs)),
            offload=parallel.offload_optimizer,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.tp)

    def __getitem__(self, rows) -> "Layouts":
        """Some rows, as a table (an integer gives a table of one row)."""
        rows = np.atleast_1d(rows)
        return Layouts(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def num_gpus(self) -> np.ndarray:
        return self.tp * self.pp * self.cp * self.dp

    def row(self, index: int = 0) -> dict:
        """One layout as plain values, as `--json` and `--layout` write it."""
        values = {field.name: int(getattr(self, field.name)[index]) for field in fields(self)}
        return values | {
            "sp": bool(values["sp"]),
            "offload": bool(values["offload"]),
            "recompute": RECOMPUTE[values["recompute"]],
        }

    def label(self, index: int = 0) -> str:
        """Short form: ``tp8 pp2 dp64 mbs1 zero1 selective``; degrees of 1 are left out."""
        row = self.row(index)
        parts = [f"{key}{row[key]}" for key in ("tp", "pp", "vp", "cp") if row[key] > 1]
        parts += [f"dp{row['dp']}", f"mbs{row['mbs']}", f"zero{row['zero']}"]
        parts += ["sp"] if row["sp"] and row["tp"] > 1 else []
        parts += [row["recompute"]] if row["recompute"] != "none" else []
        return " ".join(parts + (["offload"] if row["offload"] else []))


@dataclass(frozen=True)
class Engine:
    """How a training engine spends memory and time; what distinguishes published runs of one layout from each other.

    Some facts are read from an engine's source, some were chosen by hand with published runs in view; launch/plan/README.md
    says which. No optimizer fits them.
    """

    name: str
    zero_stages: tuple[int, ...] = (0, 1, 2, 3)
    flash: bool = True
    """Attention without the s×s matrix in memory."""
    mlp_bytes: int = 6
    """Kept a SwiGLU channel: 4 for its two inputs and 2 for its output; unfused more (Megatron-Core's: 10)."""
    norm_bytes: int = 4
    """Kept a channel by each norm: its input and output in bf16; 10 where torch's CPU kernel keeps fp32 copies too."""
    rotary_copies: bool = False
    """Query and key are kept before and after the rotary embedding, and its tables with each layer (unfused rotary)."""
    value_bytes: int = 2
    """Width of an activation."""
    masked_context: bool = False
    """Context parallelism gathers keys and values and masks what comes later, instead of passing them around a ring."""
    fresh_grads: bool = False
    """Gradients are given up after each step and appear again in the first backward pass."""
    persists_small: bool = False
    """ZeRO-3 keeps small tensors whole (DeepSpeed)."""
    wire_bytes: int = 4
    """A gradient's width while it is reduced."""
    flush_bytes: int = 0
    """A parameter of the reduction bucket: what reducing after the last microbatch holds besides gradients."""
    fused_elementwise: bool = True
    """Norms, rotary embedding, residuals run as few kernels (Transformer Engine, torch.compile)."""
    grad_bytes: int = 4
    """Gradients as they are kept between microbatches."""
    weight_bytes: int = 2
    """Weights as they rest; 4: FSDP keeps fp32 and casts what it gathers."""
    has_master: bool = True
    """A separate fp32 copy of the weights (not where weights rest in fp32)."""
    shards_grads: bool = False
    """Gradients rest sharded between microbatches under ZeRO-2 (here: only after the flush, DESIGN 'coalesce')."""
    logit_bytes: float = 12.0
    """Bytes per logit alive at the peak of the loss."""
    loss_chunk_bytes: float = 0.0
    """fp32 logits of one chunk, where head and loss go chunk by chunk and no more logits exist; 0: all at once."""
    waiting_grad_bytes: int = 0
    """Width of the head's gradient as autograd holds it until the embedding's, where one matrix is both."""
    overlap_dp_frac: float = 0.0
    """Share of gradient and weight traffic that can run behind compute."""
    overlap_tp_frac: float = 0.0
    """Share of tensor-parallel traffic hidden behind its matrix product."""
    overlap_pp: bool = False
    bucket_bytes: float = 160e6
    bucket_grows: bool = False
    """Buckets grow with the data-parallel size (Megatron-Core: max(40e6, 1e6·dp) elements)."""
    attention_frac: float = 1.0
    """Speed of its attention kernel against FlashAttention-2's (the paper: twice FlashAttention-1's and Triton's)."""
    fused_attention: bool = False
    """cuDNN or FlashAttention-3 kernels (Transformer Engine) instead of FlashAttention-2."""
    fused_accumulate: bool = False
    """Weight gradients accumulate in fp32 inside the matrix product."""
    balance_head: bool = False
    """Pipeline stages are cut by cost with the output head counted, the surplus block going to the earlier stage (nanotron)."""
    dropout: bool = False
    """Dropout masks are saved (one byte a value)."""
    saves_gathered: bool = False
    """Sequence parallelism keeps the gathered inputs of column-parallel layers."""
    selective: str = "attention"
    """What `selective` recomputes: "attention", its core (Megatron-LM); "op", every other matrix product (torchtitan)."""
    ddp_grad_bytes: int = 0
    """Kept a parameter wherever dp > 1, and again once gradients outlive a microbatch (torch DDP's buckets and .grad)."""
    scatters_messages: bool = False
    """Pipeline messages are cut by tp, sent in parallel and gathered in the node (arXiv 2104.04473 §4.1)."""
    max_zero_with_pp: int = 2

    def loss_chunk_tokens(self, tokens: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Tokens of one chunk of the loss, where it goes by chunks; rows: of the vocabulary, on this rank."""
        return np.minimum(tokens, np.maximum(64, self.loss_chunk_bytes // (4 * rows)))


def padded_vocab(shape: ModelShape, tp: np.ndarray | int) -> np.ndarray:
    """Vocabulary padded to a multiple of 128·tp, as Megatron-LM does."""
    multiple = 128 * np.asarray(tp)
    return (np.ceil(shape.vocab / multiple) * multiple).astype(np.int64)


def stage_layers(shape: ModelShape, pp: int, *, balance_head: bool = False) -> tuple[int, ...]:
    """Layers on each pipeline stage: even, a remainder going to the middle (the ends also hold the vocabulary); or cut by cost
    with the head counted, as nanotron's builder does (its models/base.py).
    """
    counts = [0] * pp
    if not balance_head:
        base, surplus = divmod(shape.num_layers, pp)
        wide = sorted(range(pp), key=lambda stage: abs(stage - pp / 2))[:surplus]
        return tuple(base + (stage in wide) for stage in range(pp))
    total, stage = shape.num_layers + shape.vocab_params / shape.layer_matrix_params, 0
    for layer in range(1, shape.num_layers + 1):
        counts[stage] += 1
        if layer > total * (stage + 1) / pp and stage < pp - 1:
            stage += 1
    return tuple(counts)


def layer_table(shape: ModelShape, pp: np.ndarray, *, balance_head: bool) -> tuple[np.ndarray, np.ndarray]:
    """Layers by stage for many layouts at once: a table [kind, stage] and each layout's kind."""
    degrees, kind = np.unique(pp, return_inverse=True)
    table = np.zeros((len(degrees), int(degrees.max())), dtype=np.int64)
    for index, degree in enumerate(degrees.tolist()):
        table[index, :degree] = stage_layers(shape, degree, balance_head=balance_head)
    return table, kind
