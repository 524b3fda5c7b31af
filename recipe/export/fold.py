"""muP's forward multipliers moved into the weights, so that a plain Llama computes the same function.

| multiplier (megatron_patches/mup/rules.py) | where it goes |
|---|---|
| embedding output × s | E' = s·E |
| block output × r | o_proj and down_proj × r |
| logits × 1/m | final norm gain × 1/m; ÷ s as well where the head is E' itself (tied) |
| attention scores × t (instead of 1/√d) | q rows × t·√d |

RMSNorm is scale-free at its input and linear in its gain, RoPE is linear: each row is exact but for rounding.
"""

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from recipe.config import RunConfig
from recipe.lower import mup_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """What each kind of tensor is multiplied by (kinds of `llama.Correspondence`)."""

    embedding: float = 1.0
    residual: float = 1.0
    final_norm: float = 1.0
    query: float = 1.0

    def of(self, kind: str, part: int) -> float:
        """The factor of one Llama tensor; `part` counts within its correspondence (0 of qkv is q)."""
        if kind == "qkv":
            return self.query if part == 0 else 1.0
        return {"embedding": self.embedding, "proj": self.residual, "fc2": self.residual, "final_norm": self.final_norm}.get(
            kind, 1.0
        )

    def apply(self, tensor: "Tensor", kind: str, part: int) -> "Tensor":
        """Scales in double precision, so that folding costs one rounding."""
        factor = self.of(kind, part)
        return tensor if factor == 1.0 else (tensor.double() * factor).to(tensor.dtype)

    def undo(self, tensor: "Tensor", kind: str, part: int) -> "Tensor":
        """Takes the factor out again."""
        factor = self.of(kind, part)
        return tensor if factor == 1.0 else (tensor.double() / factor).to(tensor.dtype)


def factors(config: RunConfig) -> Factors:
    """The factors of a run's parametrization."""
    mup = mup_of(config)
    tied = mup.embedding_mult if config.model.tied else 1.0
    scale = mup.softmax_scale
    return Factors(
        embedding=mup.embedding_mult,
        residual=mup.residual_mult,
        final_norm=mup.logits_mult / tied,
        query=1.0 if scale is None else scale * sqrt(config.model.head_size),
    )
