"""Does the exported checkpoint compute what was trained? Logits of both on held-out text, and the price of bf16."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recipe.errors import CheckFailed
from recipe.evaluate.live import Logits, huggingface_logits, load_huggingface, token_nats

MAX_RELATIVE = 1e-4
MAX_TOKENS = 4096  # of held-out text, over all sources


@dataclass(frozen=True)
class LogitsCheck:
    """Largest difference of the fp32 logits, relative to the largest logit, and what each form loses on the same text."""

    num_tokens: int
    max_difference: float
    max_logit: float
    loss_nats: float
    loss_bf16_weights_nats: float | None = None
    """Weights rounded to bf16, computed in fp32."""
    loss_bf16_nats: float | None = None
    """Weights and computation in bf16."""

    @property
    def relative(self) -> float:
        return self.max_difference / self.max_logit

    @property
    def bf16_cost_nats(self) -> float | None:
        """What rounding the weights to bf16 costs (folding by factors that are no power of two rounds anew)."""
        return None if self.loss_bf16_weights_nats is None else self.loss_bf16_weights_nats - self.loss_nats

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"relative": self.relative, "bf16_cost_nats": self.bf16_cost_nats}


def check_windows(sets: Mapping[str, np.ndarray]) -> np.ndarray:
    """Equal numbers of held-out windows from each source, int64 [n, t]; sets too short for a whole window are left out."""
    longest = max(windows.shape[1] for windows in sets.values())
    whole = [windows for windows in sets.values() if windows.shape[1] == longest]
    each = max(1, MAX_TOKENS // (longest * len(whole)))
    return np.concatenate([windows[:each] for windows in whole])


def compare_logits(exported: Logits, reference: Logits, windows: np.ndarray) -> LogitsCheck:
    """One window at a time, so that memory is that of one window's logits."""
    import torch

    largest = difference = 0.0
    for row in windows:
        tokens = torch.from_numpy(row[None, :-1].astype(np.int64))
        expected = reference(tokens)
        difference = max(difference, float((exported(tokens) - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
    loss = float(token_nats(exported, windows).mean(dtype=np.float64))
    return LogitsCheck(windows[:, 1:].size, difference, largest, loss)


def check_export(folder: Path, reference: Logits, windows: np.ndarray) -> LogitsCheck:
    """Compares plain transformers with the reference; raises `CheckFailed` above `MAX_RELATIVE`."""
    import torch

    model = load_huggingface(folder)
    exported = huggingface_logits(model)
    result = compare_logits(exported, reference, windows)
    if not result.relative <= MAX_RELATIVE:
        raise CheckFailed(
            f"{folder}: logits differ from the trained model's by {result.relative:.2e} of the largest logit "
            f"(allowed: {MAX_RELATIVE:.0e}) on {result.num_tokens} held-out tokens"
        )
    model.to(torch.bfloat16)
    in_bf16 = float(token_nats(exported, windows).mean(dtype=np.float64))
    model.to(torch.float32)
    rounded = float(token_nats(exported, windows).mean(dtype=np.float64))
    return replace(result, loss_bf16_weights_nats=rounded, loss_bf16_nats=in_bf16)
