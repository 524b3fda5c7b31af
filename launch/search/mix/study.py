"""A mixture study from the first trial to the last; what is asked follows from what came back, and from nothing else.

Decay stage: one stable run (the trunk) → arms with several seeds → how much instruction data overall → how its categories
share that → one fit of all runs → the best mixes beside the arms, from trunks of their own, on a wider model. A stage without
categories has no overall share: its sources are spread over the simplex. The first stage has no trunk: each run starts at zero.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from launch.search.errors import SearchError
from launch.search.mix.decide import Decision, Runs, Verdict, Wish, decide
from launch.search.mix.design import far_apart, random_mixes, share_line, splits, without_each
from launch.search.mix.groups import Simplex, simplex_of
from launch.search.owner import Run
from launch.search.trial import Numbering, Result, Trial, check_trunk, must_have_worked, same_duration
from launch.search.wider import wider_overrides
from recipe.config import ParallelConfig, RunConfig, Section
from recipe.resolve import resolve

ARMS = ("prior", "proportional", "uniform")
_LEAST_SHARE = 0.04


class MixSpec(Section):
    """What decides a mixture study, beside its recipe."""

    kind: Literal["mix"] = "mix"
    stage: str
    weights: dict[str, float] = Field(default_factory=dict)
    """Held-out source or metric of a task → weight in the objective; all sources alike where empty."""
    max_questions: int | None = Field(default=None, ge=1)
    """The first questions of each task; all where absent."""
    no_worse: dict[str, float] = Field(default_factory=dict)
    """Held-out source → most nats per token that it may lose against the prior's."""
    target_tokens: int | None = None
    """Length of the stage in the real run; the proxies then repeat each source as often as that run would."""
    target_at_hand: dict[str, int] = Field(default_factory=dict)
    """Source → tokens that the real run has of it; those at hand here where absent."""
    max_epochs: float = Field(default=4.0, gt=0)
    """Of any source, in the real run's stage."""
    towards_prior: float = Field(default=0.0, ge=0)
    shares: int = Field(default=12, ge=3)
    """Overall shares of instruction data that are tried, two seeds each."""
    mixes: int | None = Field(default=None, ge=1)
    """Mixes of the categories (or of all sources); 4·(groups + 1) where absent."""
    seeds: int = Field(default=4, ge=2)
    """Of each arm."""
    confirm_width: int | None = Field(default=None, ge=1)
    confirm_seeds: int = Field(default=3, ge=2)
    seed: int = 0


@dataclass(frozen=True)
class Supply:
    """How much of each source there is for the real run, and so how often it would be read."""

    at_hand: Mapping[str, int]
    stage_tokens: int
    proxy_tokens: int

    def caps(self, max_epochs: float) -> dict[str, float]:
        """Most that a source's share may be."""
        return {source: max_epochs * tokens / self.stage_tokens for source, tokens in self.at_hand.items()}

    def epochs(self, mixture: Mapping[str, float]) -> dict[str, float]:
        """Percentages by source → passes over it in the real run's stage."""
        return {source: percent / 100 * self.stage_tokens / self.at_hand[source] for source, percent in mixture.items()}

    def pools(self, here: Mapping[str, int], *, block: int) -> dict[str, int]:
        """Source → tokens that a proxy may read (at least a block), so that it repeats the source as often as the real run."""
        scale = self.proxy_tokens / self.stage_tokens
        wanted = {source: max(block, round(tokens * scale)) for source, tokens in self.at_hand.items()}
        return {source: tokens for source, tokens in wanted.items() if tokens < here[source]}


class MixStudy:
    """The runs of a mixture study so far, by phase."""

    def __init__(self, spec: MixSpec, config: RunConfig, run: Run, *, at_hand: Mapping[str, int]) -> None:
        self.spec, self.config, self._run = spec, config, run
        names = [stage.name for stage in config.stages]
        index = names.index(spec.stage) if spec.stage in names else -1
        self._before = config.stages[: max(index, 0)]
        check_trunk(config, self._before)
        stage = config.stages[index]
        self.supply = Supply(
            {source: spec.target_at_hand.get(source, at_hand[source]) for source in stage.mixture},
            spec.target_tokens or stage.tokens, stage.tokens,
        )  # fmt: skip
        self.simplex: Simplex = simplex_of(config, spec.stage, caps=self.supply.caps(spec.max_epochs))
        fresh = set(stage.mixture) - {source for one in self._before for source in one.mixture}
        pools = self.supply.pools(at_hand, block=config.block_tokens) if spec.target_tokens else {}
        self.pools = {source: tokens for source, tokens in pools.items() if source in fresh}
        self.prior = self.simplex.shares(stage.mixture)
        self.arms = self._arms(at_hand)
        self.results: list[Result] = []
        self.level_one: Decision | None = None
        self.decision: Decision | None = None
        self.confirmed: dict[str, list[Result]] = {}
        self._numbering = Numbering()

    def conduct(self) -> "MixStudy":
        """Runs what isn't there yet; the same trials whenever it is called."""
        self._trunk = self._train_trunk(())
        self._try([x for x in self.arms.values() for _ in range(self.spec.seeds)], "arm", seeds=self.spec.seeds)
        if self.simplex.sft.any():
            shares = self._overall_shares()
            count = self.spec.mixes or 4 * (int(self.simplex.sft.sum()) + 1)
            self._try(list(splits(self.simplex, self.prior, shares, count, seed=self.spec.seed)), "split")
        else:
            count = self.spec.mixes or 4 * (len(self.simplex.groups) + 1)
            pool = random_mixes(self.simplex, 40 * count, seed=self.spec.seed)
            spread = far_apart(pool, count, beside=np.array(list(self.arms.values())))
            without = without_each(self.simplex, self.prior, np.ones(len(self.prior), dtype=bool))
            self._try([*spread, *without], "spread")
        self.decision = decide(self.runs(), self.simplex, self.wish(), seed=self.spec.seed)
        if self.spec.confirm_width is not None:
            self._confirm(self.decision)
        return self

    def runs(self) -> Runs:
        """What came back, as arrays."""
        if not (done := [one for one in self.results if one.status == "done"]):
            raise SearchError(f"no run came to its end; the last one: {self.results[-1].detail}")
        metrics = tuple(self.spec.weights or done[0].losses)
        extra = tuple(source for source in self.spec.no_worse if source not in metrics)
        weights = np.array([self.spec.weights.get(name, 0.0 if self.spec.weights else 1.0) for name in (*metrics, *extra)])
        losses = np.array([[one.losses[name] for name in (*metrics, *extra)] for one in done])
        x = np.array([one.trial.point["x"] for one in done])
        return Runs(x, losses, (*metrics, *extra), weights / weights.sum())

    def wish(self) -> Wish:
        """Prior and constraints; a limit is the prior's own mean loss and what may be lost against it."""
        runs = self.runs()
        at_prior = runs.losses[np.all(np.abs(runs.x - self.arms["prior"]) < 1e-6, axis=1)].mean(axis=0)
        limits = tuple(
            (runs.metrics.index(name), float(at_prior[runs.metrics.index(name)] + most))
            for name, most in self.spec.no_worse.items()
        )
        return Wish(self.arms["prior"], self.spec.towards_prior, limits)

    def _arms(self, at_hand: Mapping[str, int]) -> dict[str, np.ndarray]:
        uniform = np.full(len(self.simplex.groups), 1 / len(self.simplex.groups))
        given = {"prior": self.prior, "proportional": self.simplex.shares(self.supply.at_hand), "uniform": uniform}
        return {name: self.simplex.within(x)[0] for name, x in given.items()}

    def _overall_shares(self) -> np.ndarray:
        """Level one: the overall share of instruction data; returns the range of shares that can't be told from the best."""
        most = min(1 - _LEAST_SHARE, float(self.simplex.upper[self.simplex.sft].sum()))
        shares = np.linspace(_LEAST_SHARE, most, self.spec.shares)
        line = self.simplex.within(share_line(self.simplex, self.prior, shares))
        self._try([x for x in line for _ in range(2)], "share", seeds=2)
        fine = self.simplex.within(share_line(self.simplex, self.prior, np.linspace(_LEAST_SHARE, most, 200)))
        self.level_one = decide(self.runs(), self.simplex, self.wish(), seed=self.spec.seed, candidates=fine)
        kept = self.level_one.stated[:, self.simplex.sft].sum(axis=1)
        low, high = (float(kept.min()), float(kept.max())) if len(kept) else (shares[0], shares[-1])
        return np.array([max(_LEAST_SHARE, low - 0.05), min(most, high + 0.05)])

    def _train_trunk(self, extra: Sequence[str], *, seed: int | None = None) -> str | None:
        """The stages before this one, ended by a checkpoint; returns where it is."""
        if not self._before:
            return None
        stages = [stage.model_dump(mode="json", exclude_defaults=True) for stage in self._before]
        overrides = [f"stages={json.dumps(stages)}", *same_duration(self.config), *extra]
        overrides += [] if seed is None else [f"seed={seed}"]
        alone = self.config.model_copy(update={"stages": self._before, "parallel": ParallelConfig()})
        tokens = resolve(alone, world_size=1).total_tokens
        trial = self._numbering.trial("trunk", overrides, save_tokens=(tokens,))
        (result,) = self._run([trial])
        must_have_worked(result)
        return trial.checkpoint(self._before[-1].name, tokens)

    def _try(self, points: Sequence[np.ndarray], label: str, *, seeds: int = 1) -> None:
        """Decays with these mixes; each block of `seeds` equal ones gets different seeds."""
        trials = [
            self._mix_trial(x, label, start=self._trunk, extra=(f"seed={self.config.seed + 100 * (place % seeds)}",))
            for place, x in enumerate(points)
        ]
        self.results += self._run(trials)

    def _mix_trial(self, x: np.ndarray, label: str, *, start: str | None, extra: Sequence[str]) -> Trial:
        mixture = self.simplex.mixture(x)
        overrides = (f"stages.{self.spec.stage}.mixture={json.dumps(mixture)}", *extra)
        point = {"mixture": mixture, "x": [round(float(part), 6) for part in x]}
        return self._numbering.trial(
            label, overrides, start=start, pools=self.pools, point=point, weights=self.spec.weights,
            max_questions=self.spec.max_questions,
        )  # fmt: skip

    def _confirm(self, decision: Decision) -> None:
        """Paired: each seed has a trunk of its own, from which all arms decay."""
        arms = {"proposed": decision.proposal}
        if decision.verdict is Verdict.UNRESOLVED:
            arms |= {f"best by {form}": x for form, x in decision.by_form.items()}
        arms |= self.arms
        wider = wider_overrides(self.config.model, self.spec.confirm_width or 1)
        self.confirmed = {name: [] for name in arms}
        for place in range(self.spec.confirm_seeds):
            seed = self.config.seed + 1000 + place
            trunk = self._train_trunk(wider, seed=seed)
            trials = [
                self._mix_trial(x, f"confirm {name}", start=trunk, extra=(*wider, f"seed={seed}")) for name, x in arms.items()
            ]
            for name, result in zip(arms, self._run(trials), strict=True):
                self.confirmed[name].append(result)


def paired(ours: Sequence[Result], theirs: Sequence[Result]) -> tuple[float, float]:
    """Mean of theirs − ours over seeds (above 0: ours is better) and the standard error of that mean."""
    differences = [b.loss - a.loss for a, b in zip(ours, theirs, strict=True) if a.status == b.status == "done"]
    if len(differences) < 2:
        raise SearchError("the confirming runs failed; results.jsonl says why")
    return statistics.fmean(differences), statistics.stdev(differences) / len(differences) ** 0.5
