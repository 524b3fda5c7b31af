"""The best candidates of a plan, one after the other, for real.

answer = tune(problem, calibration, config, settings=Settings(out=Path("runs/tune"), ...))
answer.best, answer.calibration
"""

import math
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from launch.plan.calibration import Calibration
from launch.plan.errors import PlanError
from launch.plan.recipe import with_layout
from launch.plan.search import Candidate, Problem, price, search
from launch.plan.shapes import Layouts
from launch.supervise.child import stop_requests
from launch.tune.learn import learn
from launch.tune.trial import Result, Site, run_trial
from launch.tune.verdict import Rule, Verdict
from recipe.config import RunConfig
from recipe.errors import RecipeError
from recipe.lower import schedule_of
from recipe.resolve import resolve

SAME_FRAC = 0.002  # predictions of one shape so near are one
NEAR = 40  # candidates of a plan looked at for each one run: some are predicted equal, some are refused


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to try, where, how long."""

    out: Path
    data_dir: Path
    top: int = 6
    budget_s: float = 1800.0
    only_micro: bool = False
    """The recipe's layout as it is; only micro batches differ."""
    rule: Rule = field(default_factory=Rule)
    only: int | None = None
    """Just one of the candidates that the engine takes, by its place from 0: an array's task."""


@dataclass(frozen=True)
class Answer:
    """results: in the order of prediction."""

    results: tuple[Result, ...]
    calibration: Calibration

    @property
    def best(self) -> Result | None:
        timed = [one for one in self.results if one.verdict is Verdict.MEASURED]
        return min(timed, key=lambda one: one.step_s or math.inf, default=None)


def candidates(
    problem: Problem, known: Calibration, config: RunConfig, *, top: int, only_micro: bool = False
) -> list[Candidate]:
    """What is worth a run, best prediction first, each prediction once.

    Raises:
        PlanError: nothing fits, or nothing is legal.
    """
    if not only_micro:
        return _distinct(search(problem, known, top=NEAR * top).ranked)
    seqs, gpus = problem.global_seqs, problem.cluster.num_gpus
    dp = gpus // (config.parallel.tp * config.parallel.pp * config.parallel.cp)
    sizes = [size for size in problem.micro_seqs if dp and seqs % (dp * size) == 0]
    tables = [Layouts.of_recipe(config.parallel, num_gpus=gpus, micro_seqs=size, global_seqs=seqs) for size in sizes]
    priced = [one for table in tables for one in price(problem, table, known) if one.verdict == "fits"]
    if not priced:
        tried = ", ".join(map(str, problem.micro_seqs))
        raise PlanError(f"no micro batch of {tried} fits this layout; try without --micro-batch")
    return sorted(priced, key=lambda one: one.step_s)


def _distinct(ranked: tuple[Candidate, ...]) -> list[Candidate]:
    """Those that the planner tells apart: ZeRO stages of the same time, say, are one prediction."""
    found: dict[tuple, list[Candidate]] = {}
    for one in ranked:
        row = one.layouts.row(0)
        alike = found.setdefault(tuple(row[name] for name in ("tp", "pp", "vp", "cp", "mbs", "recompute", "offload")), [])
        if all(abs(math.log(one.step_s / other.step_s)) > SAME_FRAC for other in alike):
            alike.append(one)
    return sorted((one for alike in found.values() for one in alike), key=lambda one: one.step_s)


def refusal(config: RunConfig, candidate: Candidate, *, num_processes: int) -> str:
    """Why the engine won't run the recipe in this layout, batch ramps included; empty where it will."""
    try:
        schedule_of(resolve(with_layout(config, candidate), world_size=num_processes))
    except RecipeError as error:
        return str(error).splitlines()[0]
    return ""


def tune(problem: Problem, known: Calibration, config: RunConfig, *, settings: Settings) -> Answer:
    """Runs the candidates until the budget is spent; an interrupt ends it with what is known by then."""
    ranked = candidates(problem, known, config, top=settings.top, only_micro=settings.only_micro)
    results: list[Result] = []
    started_s = time.monotonic()
    if settings.only is not None:
        taken = [one for one in ranked if not refusal(config, one, num_processes=problem.cluster.num_gpus)]
        ranked = taken[settings.only : settings.only + 1]
    with stop_requests() as stop:
        site = Site(
            num_processes=problem.cluster.num_gpus, data_dir=settings.data_dir, rule=settings.rule,
            deadline_s=started_s + settings.budget_s, stop=stop,
        )  # fmt: skip
        for candidate in ranked:
            if sum(one.verdict is not Verdict.REFUSED for one in results) == settings.top:
                break
            results.append(_try(candidate, config, results, site=site, root=settings.out / "trials"))
            _tell(results[-1])
    return Answer(tuple(results), learn(problem, known, results))


def _try(candidate: Candidate, config: RunConfig, before: list[Result], *, site: Site, root: Path) -> Result:
    if why := refusal(config, candidate, num_processes=site.num_processes):
        return Result(candidate, Verdict.REFUSED, detail=why)
    if site.stop or time.monotonic() > site.deadline_s:
        return Result(candidate, Verdict.SKIPPED, detail=_why_stopped(site.stop))
    dead = [one.candidate for one in before if one.verdict is Verdict.OUT_OF_MEMORY]
    if over := [one for one in dead if candidate.allocated_bytes >= one.allocated_bytes]:
        return Result(candidate, Verdict.SKIPPED, detail=f"needs as much memory as {over[0].label()}, which ran out of it")
    best_s = min((one.step_s for one in before if one.step_s is not None), default=None)
    folder = root / f"{len(before) + 1:02d}-{candidate.label().replace(' ', '-')}"
    return run_trial(candidate, config, root=folder, site=site, best_s=best_s)


def _why_stopped(stop: list[signal.Signals]) -> str:
    return f"stopped by {stop[0].name}" if stop else "the budget was spent"


def _tell(result: Result) -> None:
    seconds = f"{result.step_s:.3f} s a step, predicted {result.candidate.step_s:.3f}" if result.step_s else result.detail
    print(f"{result.candidate.label()}: {result.verdict}; {seconds}", file=sys.stderr)
