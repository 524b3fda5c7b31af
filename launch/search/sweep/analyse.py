"""What a finished sweep says: importance, interactions, the region that can't be told from the best, not just a point."""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy import stats

from launch.search.surrogate import Gp, fit_gp
from launch.search.sweep.space import Dimension, Value, units_of
from launch.search.sweep.study import Sweep
from launch.search.trial import Result

_GRID = 31
_PROBES = 500
_REGION_SIGMAS = 2.0
_INTERACTS_P = 0.01
_OUTLIER_QUANTILE = 0.95
_BAD_QUANTILE = 0.75  # losses above it say only "bad": they are cut there, so that the good half shapes the fit


@dataclass(frozen=True)
class Range:
    """Where a hyperparameter may lie, the others at their best, without the loss rising by more than the noise allows."""

    dimension: Dimension
    low: Value
    high: Value
    at_edge: str
    """ "low", "high", "both" or "": whether the region runs into the end of what was searched."""
    matters: bool
    """Whether any value of it is worse than the noise allows."""


@dataclass(frozen=True)
class Interaction:
    first: str
    second: str
    strength: float
    """Change of loss by the product of both, each from its lowest to its highest value."""
    p: float


class Analysis:
    """Computed from the trials of a sweep, nothing else."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.dimensions = sweep, sweep.dimensions
        anchors = [one for runs in sweep.anchors[:1] for one in runs[:1]]
        self.scored = [one for one in (*anchors, *sweep.explored) if one.objective is not None and one.status != "pruned"]
        self.x = np.array([units_of(self.dimensions, one.trial.point) for one in self.scored])
        y = np.array([one.loss for one in self.scored])
        self.y = np.minimum(y, np.quantile(y, _BAD_QUANTILE))
        self._nearly_all = y <= np.quantile(y, _OUTLIER_QUANTILE)
        self._whole_y = y

    @cached_property
    def noise(self) -> float:
        return self.sweep.noise()

    @cached_property
    def margin(self) -> float:
        """Loss above the best that still counts as equal."""
        return _REGION_SIGMAS * self.noise

    @cached_property
    def surrogate(self) -> Gp:
        return fit_gp(self.x, self.y)

    @cached_property
    def importance(self) -> dict[str, float]:
        """Share of the loss's variance by hyperparameter (fANOVA, by Optuna), largest first."""
        import optuna
        from optuna.distributions import BaseDistribution, FloatDistribution

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if len(self.dimensions) == 1 or np.ptp(self.y) == 0:
            return {dimension.key: 1.0 / len(self.dimensions) for dimension in self.dimensions}
        axes: dict[str, BaseDistribution] = {dimension.key: FloatDistribution(0.0, 1.0) for dimension in self.dimensions}
        study = optuna.create_study()
        for row, value in zip(np.clip(self.x, 0, 1), self.y, strict=True):
            params = dict(zip(axes, row.tolist(), strict=True))
            study.add_trial(optuna.trial.create_trial(params=params, distributions=axes, value=float(value)))
        found = optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
        return {key: float(value) for key, value in found.items()}

    @cached_property
    def interactions(self) -> list[Interaction]:
        """Pairs whose product matters in a quadratic fit (t test), strongest first."""
        z, y = 2 * self.x[self._nearly_all] - 1, self._whole_y[self._nearly_all]
        pairs = list(combinations(range(len(self.dimensions)), 2))
        terms = np.column_stack([np.ones(len(z)), z, z**2, *(z[:, i] * z[:, j] for i, j in pairs)])
        freedom = len(z) - terms.shape[1]
        if freedom < 5 or not pairs:
            return []
        fit, *_ = np.linalg.lstsq(terms, y, rcond=None)
        variance = np.sum((y - terms @ fit) ** 2) / freedom * np.diag(np.linalg.pinv(terms.T @ terms))
        start = terms.shape[1] - len(pairs)
        found = []
        for (i, j), value, spread in zip(pairs, fit[start:], np.sqrt(variance[start:])):
            p = float(2 * stats.t.sf(abs(value) / max(spread, 1e-12), freedom))
            if p < _INTERACTS_P:
                found.append(Interaction(self.dimensions[i].key, self.dimensions[j].key, 2 * float(value), p))
        return sorted(found, key=lambda one: -abs(one.strength))

    def profile(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of [0, 1] in one dimension, and the least loss that the surrogate sees there over all the others."""
        places = np.linspace(0, 1, _GRID)
        if (count := len(self.dimensions[index].choices)) > 0:
            places = (np.arange(count) + 0.5) / count
        others = np.vstack([np.random.default_rng(0).random((_PROBES, len(self.dimensions))), np.clip(self.x, 0, 1)])
        least = []
        for place in places:
            probes = others.copy()
            probes[:, index] = place
            least.append(float(self.surrogate.predict(probes)[0].min()))
        return places, np.array(least)

    @cached_property
    def region(self) -> list[Range]:
        """The stable region, one range a hyperparameter."""
        ranges = []
        for index, dimension in enumerate(self.dimensions):
            places, least = self.profile(index)
            good = places[least <= least.min() + self.margin]
            edges = [name for name, hit in (("low", good[0] == places[0]), ("high", good[-1] == places[-1])) if hit]
            low, high = dimension.at(float(good[0])), dimension.at(float(good[-1]))
            edge = "both" if len(edges) == 2 else "".join(edges)
            ranges.append(Range(dimension, low, high, at_edge=edge, matters=len(good) < len(places)))
        return ranges

    @property
    def chosen(self) -> Result:
        """A trial at the chosen point."""
        return self.sweep.best()[0]
