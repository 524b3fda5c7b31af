"""A sweep from the first trial to the last: what is asked follows from what came back, and from nothing else.

Order: the recipe as it is, with several seeds (an anchor of the noise) → points spread evenly → Optuna's TPE → two more anchors
→ fresh seeds for the best few, which alone decide → the choice, and its neighbours in learning rate, on a wider model.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import Field

from launch.search.errors import SearchError
from launch.search.owner import Run
from launch.search.repeats import mean_loss, pooled_sd
from launch.search.sweep.sampler import at_random, grid, spread, tpe
from launch.search.sweep.space import Dimension, Point, overrides_of, parse_dimension
from launch.search.trial import Numbering, Result, Trial
from launch.search.wider import wider_overrides
from recipe.config import RunConfig, Section

BATCH = 8  # trials between two looks at the results, whatever the number of workers: the study is the same with any
FEWEST_TO_PRUNE = 8  # rungs that must be known before one can be called bad
MAX_SPREAD = 48
LR = "optim.peak_lr"


class SweepSpec(Section):
    """What decides a sweep, beside its recipe."""

    kind: Literal["sweep"] = "sweep"
    search: tuple[str, ...]
    method: Literal["tpe", "random", "grid"] = "tpe"
    trials: int = Field(default=64, ge=1)
    """Points that are tried; repeats and confirming runs come on top."""
    seeds: int = Field(default=4, ge=2)
    """Seeds of each anchor and finalist."""
    finalists: int = Field(default=6, ge=1)
    prune_frac: float | None = Field(default=None, gt=0, lt=1)
    """Share of the tokens of the short complete run that each trial starts with; None: only diverged trials end early."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Held-out source or metric of a task → weight in the objective; all sources alike where empty."""
    max_questions: int | None = Field(default=None, ge=1)
    """The first questions of each task; all where absent."""
    confirm_width: int | None = Field(default=None, ge=2)
    """Factor of the wider model on which the choice is confirmed."""
    confirm_seeds: int = Field(default=3, ge=2)
    seed: int = 0

    @property
    def dimensions(self) -> list[Dimension]:
        return [parse_dimension(text) for text in self.search]


class Sweep:
    """The trials of a sweep so far, by phase."""

    def __init__(self, spec: SweepSpec, config: RunConfig, run: Run) -> None:
        self.spec, self.config, self._run = spec, config, run
        self.dimensions = spec.dimensions
        self.explored: list[Result] = []
        self.anchors: list[list[Result]] = []
        self.finals: list[list[Result]] = []
        self.confirmed: dict[str, list[Result]] = {}
        self._numbering = Numbering()

    def conduct(self) -> "Sweep":
        """Runs what isn't there yet; the same trials whenever it is called.

        Raises:
            SearchError: The recipe itself, or every point, fails.
        """
        baseline = {dimension.key: value_at(self.config, dimension.key) for dimension in self.dimensions}
        self.anchors.append(self._repeat(baseline, "recipe as it is"))
        if not self.anchors[0]:
            raise SearchError("the recipe as it is failed with every seed; the files below work/results say why")
        self._explore()
        ranked = self.ranked()
        for place in (len(ranked) // 4, len(ranked) // 2):
            if place > self.spec.finalists:
                self.anchors.append([ranked[place], *self._repeat(ranked[place].trial.point, "anchor", first=1)])
        self.finals = [self._repeat(one.trial.point, "finalist", first=1) for one in ranked[: self.spec.finalists]]
        if not any(self.finals):
            raise SearchError("no point came to its end; the files below work/results say why, and more --trials may find one")
        if self.spec.confirm_width is not None:
            self._confirm(baseline)
        return self

    def ranked(self) -> list[Result]:
        """Complete trials at the recipe's seed, best first; a point that came up twice counts once."""
        distinct = {tuple(one.trial.point.items()): one for one in reversed(self.explored) if one.status == "done"}
        return sorted(distinct.values(), key=lambda one: (one.loss, one.trial.number))

    def best(self) -> list[Result]:
        """The finalist whose fresh seeds are best on average."""
        return min((runs for runs in self.finals if runs), key=mean_loss)

    def noise(self) -> float:
        """Standard deviation between seeds where it decides: pooled over the finalists and the recipe as it is."""
        return seed_noise([self.anchors[0], *self.finals])

    def _explore(self) -> None:
        spec = self.spec
        if spec.method == "grid":
            self._batches(grid(self.dimensions, spec.trials))
        elif spec.method == "random":
            self._batches(at_random(self.dimensions, spec.trials, seed=spec.seed))
        else:
            self._batches(spread(self.dimensions, min(MAX_SPREAD, max(1, spec.trials // 2)), seed=spec.seed))
            while (left := spec.trials - len(self.explored)) > 0:
                seed = spec.seed + 1000 * (1 + len(self.explored))
                self._batches(tpe(self.dimensions, self._told(), min(BATCH, left), seed=seed))

    def _batches(self, points: list[Point]) -> None:
        for start in range(0, len(points), BATCH):
            frac, above = self.spec.prune_frac, self._rung_above()
            batch = points[start : start + BATCH]
            trials = [self._trial(point, "explore", rung_frac=frac, rung_above=above) for point in batch]
            self.explored += self._run(trials)

    def _rung_above(self) -> float | None:
        rungs = [one.rung for one in self.explored if one.rung is not None]
        return statistics.median(rungs) if len(rungs) >= FEWEST_TO_PRUNE else None

    def _told(self) -> list[tuple[Point, float | None, float | None]]:
        return [
            (one.trial.point, one.objective if one.status in ("done", "diverged") else None, one.rung)
            for one in self.explored if one.status != "failed"
        ]  # fmt: skip

    def _repeat(
        self, point: Point, label: str, *, first: int = 0, count: int | None = None, extra: Iterable[str] = ()
    ) -> list[Result]:
        """The point with the seeds from `first` on; one that diverged counts as the uniform guess."""
        seeds = range(first, first + (count or self.spec.seeds))
        trials = [
            self._trial(point, label, extra=(*extra, f"seed={self.config.seed + 100 * seed}")) for seed in seeds
        ]
        return [one for one in self._run(trials) if one.objective is not None]

    def _confirm(self, baseline: Point) -> None:
        """Chosen point and recipe on the wider model, and the chosen point at half and twice its learning rate."""
        wider = wider_overrides(self.config.model, self.spec.confirm_width or 1)
        chosen = self.best()[0].trial.point
        arms = {"chosen": chosen, "recipe": baseline}
        if LR in chosen:
            arms |= {"half the lr": chosen | {LR: chosen[LR] / 2}, "twice the lr": chosen | {LR: chosen[LR] * 2}}
        for name, point in arms.items():
            self.confirmed[name] = self._repeat(point, f"wider: {name}", count=self.spec.confirm_seeds, extra=wider)

    def _trial(
        self, point: Point, label: str, *, extra: Iterable[str] = (), rung_frac: float | None = None,
        rung_above: float | None = None,
    ) -> Trial:
        return self._numbering.trial(
            label, (*overrides_of(point), *extra), point=point, weights=self.spec.weights, rung_frac=rung_frac,
            rung_above=rung_above, max_questions=self.spec.max_questions,
        )  # fmt: skip


def seed_noise(groups: Sequence[Sequence[Result]]) -> float:
    """Standard deviation of the loss between seeds, over groups of equal trials."""
    return pooled_sd([[one.loss for one in runs] for runs in groups])[0]


def value_at(config: RunConfig, key: str) -> float | int:
    """The recipe's own value of a searched key."""
    node: Any = config.model_dump()
    for part in key.split("."):
        node = next(one for one in node if one["name"] == part) if isinstance(node, list) else node[part]
    return node
