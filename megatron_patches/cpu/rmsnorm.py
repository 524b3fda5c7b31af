"""torch's RMSNorm with the mark that Megatron-Core's gradient reductions look for."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class RmsNorm(torch.nn.Module):
    """x / rms(x) * weight over the last dimension.

    Takes the arguments with which a layer spec builds a norm. Under sequence parallelism each rank sees s/tp
    positions, so the gain's gradient must be summed over TP: `weight.sequence_parallel` says so.
    """

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__()
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:  # [s/tp, b, h]
        """Normalises; the same kernel as torch.nn.RMSNorm."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
