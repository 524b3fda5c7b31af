"""Where to look next. Each batch is a function of seed and of what is known, so a study that goes on asks the same again."""

import itertools
import math
import warnings
from collections.abc import Sequence

from launch.search.sweep.space import Dimension, Point, point_at, units_of


def spread(dimensions: Sequence[Dimension], count: int, *, seed: int) -> list[Point]:
    """Sobol points: even in every projection."""
    from scipy.stats.qmc import Sobol

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The balance properties")
        units = Sobol(len(dimensions), seed=seed).random(count)
    return [point_at(dimensions, row) for row in units]


def at_random(dimensions: Sequence[Dimension], count: int, *, seed: int) -> list[Point]:
    import numpy as np

    return [point_at(dimensions, row) for row in np.random.default_rng(seed).random((count, len(dimensions)))]


def grid(dimensions: Sequence[Dimension], count: int) -> list[Point]:
    """All values of keys that can be counted where they fit, else evenly spaced ones: at most `count` points."""
    sizes = {dimension.key: 1 for dimension in dimensions}
    while True:  # refine the coarsest key that still can be
        for dimension in sorted(dimensions, key=lambda one: sizes[one.key]):
            limit = dimension.num_values or count
            finer = sizes | {dimension.key: sizes[dimension.key] + 1}
            if sizes[dimension.key] < limit and math.prod(finer.values()) <= count:
                sizes = finer
                break
        else:
            break
    rows = itertools.product(*(_even(dimension, sizes[dimension.key]) for dimension in dimensions))
    return [point_at(dimensions, row) for row in rows]


def _even(dimension: Dimension, size: int) -> list[float]:
    if dimension.choices or size == 1:
        return [(index + 0.5) / size for index in range(size)]
    return [index / (size - 1) for index in range(size)]


def tpe(
    dimensions: Sequence[Dimension], told: Sequence[tuple[Point, float | None, float | None]], count: int, *, seed: int
) -> list[Point]:
    """Optuna's multivariate TPE, after what is known, over the unit cube.

    Args:
        dimensions: What is searched.
        told: (point, objective, rung): the objective is None where the trial was pruned at its rung.
        count: Points of the batch; the constant liar keeps them apart.
        seed: Of this batch.
    """
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    axes: dict[str, BaseDistribution] = {dimension.key: FloatDistribution(0.0, 1.0) for dimension in dimensions}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=0)
    study = optuna.create_study(sampler=sampler)
    for point, value, rung in told:
        units = units_of(dimensions, point)
        if any(not 0 <= unit <= 1 for unit in units):
            continue  # a baseline outside of the ranges
        params = dict(zip(axes, units, strict=True))
        state = TrialState.COMPLETE if value is not None else TrialState.PRUNED
        steps = {} if rung is None else {0: rung}
        study.add_trial(
            create_trial(state=state, value=value, params=params, distributions=axes, intermediate_values=steps)
        )
    asked = [study.ask(axes) for _ in range(count)]
    return [point_at(dimensions, [trial.params[dimension.key] for dimension in dimensions]) for trial in asked]
