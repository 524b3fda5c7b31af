"""Equal trials with different seeds: their mean, and the noise that they show."""

import statistics
from collections.abc import Sequence

import numpy as np

from launch.search.trial import Result


def mean_loss(runs: Sequence[Result]) -> float:
    return statistics.fmean(one.loss for one in runs)


def pooled_sd(groups: Sequence[Sequence[float] | np.ndarray]) -> tuple[float, int]:
    """Standard deviation within groups of equal trials, and its degrees of freedom; zeros where nothing was repeated."""
    repeats = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in repeats)
    squares = sum(float(np.var(group)) * len(group) for group in repeats)
    return ((squares / freedom) ** 0.5, freedom) if freedom else (0.0, 0)
