"""Does the model know what it knows? Confidence against accuracy over answers (Figure 4 of the report). No torch."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Questions whose chosen answer had a probability in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Bins that hold something, overall accuracy, and the expected calibration error (Guo et al., arXiv 1706.04599)."""

    bins: tuple[Bin, ...]
    accuracy: float
    ece: float
    num_questions: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def calibration(
    log_likelihoods: NDArray[np.floating], answers: NDArray[np.integer], *, num_bins: int = NUM_BINS
) -> Calibration:
    """Ten equal bins of P(answer), normalised over the choices.

    Args:
        log_likelihoods: Of each choice (A, B, C, D), [num_questions, num_choices].
        answers: Index of the right one, [num_questions].
    """
    scores = np.asarray(log_likelihoods, dtype=np.float64)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    confidence, chosen = shares.max(axis=1), shares.argmax(axis=1)
    right = (chosen == np.asarray(answers)).astype(np.float64)
    place = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    bins, error = [], 0.0
    for index in range(num_bins):
        inside = place == index
        if inside.any():
            found = Bin(
                index / num_bins, (index + 1) / num_bins, int(inside.sum()), float(confidence[inside].mean()),
                float(right[inside].mean()),
            )
            bins.append(found)
            error += found.count / len(right) * abs(found.accuracy - found.confidence)
    return Calibration(tuple(bins), float(right.mean()), error, len(right))
