"""Minima of learning-rate sweeps, with intervals, and what they say about transfer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, log, sqrt
from statistics import fmean, stdev

import numpy as np
from scipy import stats

from tests.transfer.curves import BASE_LR, STEP, Curve

WINDOW = 2  # grid steps around the minimum that a parabola is fitted to
CONFIDENCE = 0.95
COMPARED_SEEDS = 2  # levels of loss are the first two seeds': every curve has these


@dataclass(frozen=True)
class Minimum:
    """Of a curve.

    Attributes:
        lr, low, high: Where a parabola through loss over log lr has its minimum, and its 95 % interval; infinite (and
            lr the grid's best) where the losses don't bend upwards.
        loss: The parabola's, averaged over the first two seeds.
        grid_lr: The best of the rates tried, by the mean over seeds.
    """

    lr: float
    low: float
    high: float
    loss: float
    grid_lr: float

    @property
    def step(self) -> float:
        """Grid steps of √2 from the base lr."""
        return log(self.lr / BASE_LR) / log(STEP)


def mean_losses(found: Mapping[tuple[int, int], float]) -> dict[int, float]:
    """Grid step -> loss, as if every seed had been run everywhere: each seed's level is taken out, the first two's put back."""
    seeds = sorted({seed for _, seed in found})
    shared = [step for step in {step for step, _ in found} if all((step, seed) in found for seed in seeds)]
    level = {seed: fmean(found[step, seed] for step in shared) for seed in seeds}
    middle = fmean(level[seed] for seed in seeds[:COMPARED_SEEDS])
    steps = sorted({step for step, _ in found})
    return {step: middle + fmean(found[step, seed] - level[seed] for seed in seeds if (step, seed) in found) for step in steps}


def minimum(found: Mapping[tuple[int, int], float]) -> Minimum:
    """Least squares of loss = level(seed) + b·x + a·x², x in grid steps; the interval by the delta method and Student's t."""
    means = mean_losses(found)
    best = min(means, key=means.__getitem__)
    points = [(step - best, seed, loss) for (step, seed), loss in found.items() if abs(step - best) <= WINDOW]
    seeds = sorted({seed for _, seed, _ in points})
    design = np.array([[x * x, x, *(float(seed == one) for one in seeds)] for x, seed, _ in points])
    losses = np.array([loss for _, _, loss in points])
    solved = np.linalg.lstsq(design, losses, rcond=None)[0]
    bend, slope, free = solved[0], solved[1], len(points) - len(solved)
    grid_lr = BASE_LR * STEP**best
    if bend <= 0 or free < 1 or abs(slope / (2 * bend)) > WINDOW:
        return Minimum(grid_lr, 0.0, inf, means[best], grid_lr)
    at = -slope / (2 * bend)
    noise = float(((design @ solved - losses) ** 2).sum()) / free
    covariance = noise * np.linalg.inv(design.T @ design)
    gradient = np.array([slope / (2 * bend**2), -1 / (2 * bend)])
    half = stats.t.ppf((1 + CONFIDENCE) / 2, free) * sqrt(gradient @ covariance[:2, :2] @ gradient)
    low, middle, high = (BASE_LR * STEP ** (best + at + side * half) for side in (-1, 0, 1))
    return Minimum(middle, low, high, fmean(solved[2 : 2 + COMPARED_SEEDS]) - bend * at * at, grid_lr)


def moved(minima: Sequence[Minimum], *, grid: bool = False) -> float:
    """Largest ÷ smallest best lr."""
    rates = [one.grid_lr if grid else one.lr for one in minima]
    return max(rates) / min(rates)


def moved_at_least(minima: Sequence[Minimum]) -> float:
    """What remains of `moved` where the two minima lie as near as their intervals allow."""
    first, last = min(minima, key=lambda one: one.lr), max(minima, key=lambda one: one.lr)
    return max(1.0, last.low / first.high)


def exponent(sizes: Sequence[float], minima: Sequence[Minimum]) -> float:
    """p of best lr ∝ size^p, by least squares."""
    return float(np.polyfit(np.log(sizes), [log(one.lr) for one in minima], 1)[0])


@dataclass(frozen=True)
class Gap:
    """Loss of a larger model less that of the next smaller one at one grid step, over the seeds that both have there.

    `error` is the mean's standard error, None with one seed.
    """

    step: int
    sizes: tuple[float, float]
    mean: float
    error: float | None


def gaps_near_best(group: Sequence[tuple[Curve, Mapping[tuple[int, int], float]]], *, base: Minimum) -> list[Gap]:
    """Of neighbours in size, at the three steps around the base model's best."""
    best = round(log(base.grid_lr / BASE_LR) / log(STEP))
    found: list[Gap] = []
    for step in range(best - 1, best + 2):
        for (small, narrow), (large, wide) in pairwise(group):
            gaps = [wide[at] - loss for at, loss in narrow.items() if at[0] == step and at in wide]
            if gaps:
                error = stdev(gaps) / sqrt(len(gaps)) if len(gaps) > 1 else None
                found.append(Gap(step, (small.size, large.size), fmean(gaps), error))
    return found


def regret(found: Mapping[tuple[int, int], float], at_lr: float) -> float:
    """How much more loss a curve has at an lr carried over from elsewhere than at its own best (straight lines between)."""
    means = mean_losses(found)
    x = log(at_lr / BASE_LR) / log(STEP)
    return float(np.interp(x, list(means), list(means.values()))) - min(means.values())
