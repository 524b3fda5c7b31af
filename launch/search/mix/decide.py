"""From runs to a decision: fit both forms, say which mixes can't be told from the best, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from launch.search.mix.design import random_mixes
from launch.search.mix.groups import Simplex
from launch.search.mix.laws import LogLinear, Objective, fit_loglinear, fit_process
from launch.search.repeats import pooled_sd

_SIGMAS = 1.64  # one-sided 95 %
_FLAT_P = 0.01
_UNFIT_P = 1e-3
_ROUNDS, _CANDIDATES = 3, 1500


class Verdict(StrEnum):
    """How far a study goes."""

    BETTER = "better"
    """Both forms agree, and the best is below the prior by more than the uncertainty."""
    PRIOR_HOLDS = "prior holds"
    """They agree, and the prior can't be told from the best: keep it."""
    NO_PREFERENCE = "no preference"
    """The mixes differ no more than seeds do."""
    UNRESOLVED = "unresolved"
    """The forms disagree, or the law doesn't fit: the confirming run has to decide."""


@dataclass(frozen=True)
class Runs:
    """What was measured: one row a run."""

    x: np.ndarray
    """Shares [n, num_groups]."""
    losses: np.ndarray
    """[n, num_metrics]."""
    metrics: tuple[str, ...]
    weights: np.ndarray
    """[num_metrics], summing to one."""

    @property
    def objective(self) -> np.ndarray:
        return self.losses @ self.weights

    def same_mix(self) -> list[np.ndarray]:
        """Rows of each mix."""
        _, label = np.unique(np.round(self.x, 6), axis=0, return_inverse=True)
        return [np.flatnonzero(label.ravel() == one) for one in range(label.max() + 1)]

    def noise(self, values: np.ndarray) -> tuple[float, int]:
        """Pooled standard deviation between runs of one mix, and its degrees of freedom."""
        return pooled_sd([values[rows] for rows in self.same_mix()])


@dataclass(frozen=True)
class Decision:
    """What the runs say."""

    verdict: Verdict
    proposal: np.ndarray
    by_form: dict[str, np.ndarray]
    """Form → its best mix."""
    stated: np.ndarray
    """Mixes that can't be told from the best [n, num_groups]."""
    noise: float
    flat_p: float
    """Chance of differences so large between mixes if there were none."""
    unfit_p: float
    """Chance of residuals so large if the law were true."""
    gain: float
    """Predicted gain over the prior."""
    gain_sd: float
    forms: dict[str, Objective]

    def contains(self, x: np.ndarray, *, near: float = 0.05) -> bool:
        """Whether a mix lies in the stated set, or within this distance (largest share difference) of a member."""
        return bool(np.min(np.max(np.abs(self.stated - x), axis=1)) <= near)


@dataclass(frozen=True)
class Wish:
    """What counts besides the objective."""

    prior: np.ndarray
    towards_prior: float = 0.0
    """Weight of KL(x ‖ prior)."""
    limits: tuple[tuple[int, float], ...] = ()
    """(metric, most that its loss may be)."""


def decide(runs: Runs, simplex: Simplex, wish: Wish, *, seed: int = 0, candidates: np.ndarray | None = None) -> Decision:
    """Fits, searches, judges.

    Args:
        runs: At least one mix with several seeds, for the noise.
        simplex: Where to search; its bounds hold.
        wish: Prior and constraints.
        seed: Of candidates and draws.
        candidates: Search only among these (a line of the simplex); None: everywhere.
    """
    forms = _fit(runs, seed=seed)
    fixed = candidates is not None
    everywhere = [random_mixes(simplex, _CANDIDATES, seed=seed), runs.x, wish.prior]
    points = np.vstack(everywhere) if candidates is None else candidates
    points = points[simplex.inside(points)]
    best = {name: _search(form, points, simplex, wish, seed=seed, fixed=fixed) for name, form in forms.items()}
    law, process = forms["log-linear"], forms["process"]
    noise, freedom = runs.noise(runs.objective)
    flat_p, unfit_p = _flat_p(runs, noise, freedom), _unfit_p(runs, law, noise, freedom)
    of_law, of_process = best["log-linear"], best["process"]
    agree = _tied(process, of_law, of_process, noise) and _tied(law, of_process, of_law, noise)
    sure = agree and unfit_p > _UNFIT_P
    proposal = of_law if sure else _search(_average(forms), points, simplex, wish, seed=seed, fixed=fixed)
    judge = law if sure else process
    gain = float(judge.mean(wish.prior[None])[0] - judge.mean(proposal[None])[0])
    gain_sd = float(judge.difference_sd(wish.prior[None], proposal)[0])
    if flat_p > _FLAT_P:
        verdict = Verdict.NO_PREFERENCE
    elif not sure:
        verdict = Verdict.UNRESOLVED
    else:
        verdict = Verdict.BETTER if gain > _SIGMAS * gain_sd else Verdict.PRIOR_HOLDS
    allowed = np.vstack([points, *best.values()])
    allowed = allowed[_allowed(law if sure else process, allowed, wish)]
    used = [("log-linear", law)] if sure else list(forms.items())
    stated = np.vstack([_set(form, allowed, best[name]) for name, form in used])
    if verdict is Verdict.NO_PREFERENCE:
        stated = allowed
    if verdict in (Verdict.NO_PREFERENCE, Verdict.PRIOR_HOLDS) and simplex.inside(wish.prior)[0]:
        proposal = wish.prior
    return Decision(verdict, proposal, best, stated, noise, flat_p, unfit_p, gain, gain_sd, forms)


def _fit(runs: Runs, *, seed: int) -> dict[str, Objective]:
    """One law per metric, each form; metrics of one run err together, which the repeats show."""
    noises = [runs.noise(column)[0] for column in runs.losses.T]
    alone = float(np.sqrt(np.sum((runs.weights * noises) ** 2)))
    overlap = runs.noise(runs.objective)[0] / alone if alone > 0 else 1.0
    overlap = float(np.clip(overlap, 0.5, np.sqrt(len(noises))))
    laws = [fit_loglinear(runs.x, column, noise=noise, seed=seed) for column, noise in zip(runs.losses.T, noises)]
    processes = [fit_process(runs.x, column, noise=noise) for column, noise in zip(runs.losses.T, noises)]
    return {
        "log-linear": Objective(tuple(laws), runs.weights, overlap),
        "process": Objective(tuple(processes), runs.weights, overlap),
    }


def _average(forms: dict[str, Objective]) -> Objective:
    one, other = forms.values()
    return Objective((*one.laws, *other.laws), np.concatenate([one.weights, other.weights]) / 2)


def _search(form: Objective, points: np.ndarray, simplex: Simplex, wish: Wish, *, seed: int, fixed: bool) -> np.ndarray:
    """The least of objective and pull to the prior among allowed points; then closer and closer around it."""
    rng = np.random.default_rng(seed)
    best = _least(form, points, wish)
    for round_ in range(0 if fixed else _ROUNDS):
        strength = 30.0 * 4**round_
        around = rng.dirichlet(strength * best + 0.05, size=_CANDIDATES // 3)
        around = simplex.within(np.vstack([around, best]))
        best = _least(form, around, wish)
    return best


def _least(form: Objective, points: np.ndarray, wish: Wish) -> np.ndarray:
    allowed = _allowed(form, points, wish)
    ratio = np.maximum(points, 1e-12) / np.maximum(wish.prior, 1e-6)
    cost = form.mean(points) + wish.towards_prior * np.sum(points * np.log(ratio), axis=1)
    return points[np.argmin(np.where(allowed, cost, np.inf))] if allowed.any() else points[np.argmin(cost)]


def _allowed(form: Objective, points: np.ndarray, wish: Wish) -> np.ndarray:
    keeps = np.ones(len(points), dtype=bool)
    for metric, most in wish.limits:
        keeps &= form.laws[metric].mean(points) <= most
    return keeps


def _tied(form: Objective, x: np.ndarray, best: np.ndarray, noise: float) -> bool:
    """Whether this form can't tell x from its best, or sees a difference that a run of its own wouldn't show."""
    behind = float(form.mean(x[None])[0] - form.mean(best[None])[0])
    return behind <= max(noise, _SIGMAS * float(form.difference_sd(x[None], best)[0]))


def _set(form: Objective, points: np.ndarray, best: np.ndarray) -> np.ndarray:
    behind = form.mean(points) - form.mean(best[None])[0]
    return points[behind <= _SIGMAS * form.difference_sd(points, best)]


def _flat_p(runs: Runs, noise: float, freedom: int) -> float:
    """F test: do the means of mixes differ by more than seeds explain?"""
    groups = runs.same_mix()
    if not freedom or noise == 0 or len(groups) < 2:
        return 0.0
    values = runs.objective
    between = sum(len(rows) * (values[rows].mean() - values.mean()) ** 2 for rows in groups) / (len(groups) - 1)
    return float(stats.f.sf(between / noise**2, len(groups) - 1, freedom))


def _unfit_p(runs: Runs, law: Objective, noise: float, freedom: int) -> float:
    """F test: are the residuals of the law's objective larger than seeds explain?"""
    laws: Sequence[LogLinear] = law.laws  # type: ignore[assignment]
    left = np.sum([weight * one.residuals for weight, one in zip(runs.weights, laws)], axis=0)
    groups = runs.same_mix()
    free = len(groups) - runs.x.shape[1] - 1
    if not freedom or noise == 0 or free < 1:
        return 1.0
    lack = sum(len(rows) * left[rows].mean() ** 2 for rows in groups) / free
    return float(stats.f.sf(lack / noise**2, free, freedom))


def chance_random_is_better(form: Objective, simplex: Simplex, proposal: np.ndarray, *, seed: int = 1) -> float:
    """Share of random mixes that a form predicts to be better than the proposal."""
    others = random_mixes(simplex, 1000, seed=seed)
    return float(np.mean(form.mean(others) < form.mean(proposal[None])[0]))
