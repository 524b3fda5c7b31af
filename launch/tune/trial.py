"""One short real run of a layout: the recipe's own training program, ended by us as soon as its steps are measured.

result = run_trial(candidate, config, root=out / "trials/01", rule=Rule(), ...)
"""

import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from launch.local import free_port, rank_environment
from launch.plan.recipe import with_layout
from launch.plan.search import Candidate
from launch.supervise.attempts import close_attempt, open_attempt
from launch.supervise.node import launcher_command, run_node
from launch.supervise.outcome import describe_exit
from launch.tune.verdict import Rule, Verdict, died_of, judge, measured_s
from recipe.config import RunConfig
from recipe.prepare import create_run
from recipe.rundir import RunDir, read_jsonl

JOB = "tune"


@dataclass(frozen=True)
class Result:
    """What became of one candidate."""

    candidate: Candidate
    verdict: Verdict
    steps_s: tuple[float, ...] = ()
    """Every step's seconds, warm-up first."""
    step_s: float | None = None
    """Median after the warm-up."""
    memory_bytes: int | None = None
    """Most that rank 0 allocated (its resident memory on CPUs)."""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where trials run."""

    num_processes: int
    data_dir: Path
    rule: Rule
    deadline_s: float
    """On the monotonic clock: no trial goes on after it."""
    stop: list[signal.Signals]
    """Signals that the user sent; a trial ends at the first."""


def trial_config(config: RunConfig, candidate: Candidate) -> RunConfig:
    """The recipe in another layout, always at its full batch and longest sequence, without checkpoints and evaluations."""
    content = with_layout(config, candidate).model_dump()
    content["model"]["seq_length_tokens"] = config.block_tokens
    for stage in content["stages"]:
        stage["batch"] = stage["seq_length_tokens"] = None
    content["checkpoint"]["every_tokens"] = content["evaluate"]["every_tokens"] = None
    content["logging"]["tensorboard"] = False
    return RunConfig.model_validate(content)


def run_trial(candidate: Candidate, config: RunConfig, *, root: Path, site: Site, best_s: float | None) -> Result:
    """Runs a candidate until it is measured, dominated, dead, or the time is over.

    Args:
        candidate: The layout, as the planner priced it.
        config: The recipe.
        root: The trial's run directory, which must not be there yet.
        site: Where, how long.
        best_s: Median step of the best trial so far.
    """
    run = create_run(trial_config(config, candidate), root, world_size=site.num_processes, data_dir=site.data_dir)
    verdict, code = _run(run, site=site, best_s=best_s)
    lines = read_jsonl(run.metrics) if run.metrics.is_file() else []
    steps_s = tuple(float(line["step_s"]) for line in lines)
    detail = ""
    if verdict is Verdict.GOING:  # it ended by itself
        verdict, detail = _by_itself(run, code, steps_s, site.rule)
    timed = verdict in (Verdict.MEASURED, Verdict.DOMINATED, Verdict.OUT_OF_TIME)
    step_s = measured_s(steps_s, rule=site.rule) if timed else None
    if verdict is Verdict.OUT_OF_TIME and step_s is not None:
        verdict, detail = Verdict.MEASURED, "fewer steps than asked for: the time was over"
    memory = max((int(line["memory_bytes"]) for line in lines), default=None)
    return Result(candidate, verdict, steps_s=steps_s, step_s=step_s, memory_bytes=memory, detail=detail)


def _run(run: RunDir, *, site: Site, best_s: float | None) -> tuple[Verdict, int]:
    attempt = open_attempt(run, job=JOB, world_size=site.num_processes, nodes=[socket.gethostname()])
    command = launcher_command(
        run.root.absolute(), attempt=attempt.number, log_dir=attempt.folder.absolute(),
        processes_per_node=site.num_processes, master_port=free_port(),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )  # fmt: skip
    verdict, received = Verdict.GOING, []

    def watch() -> None:
        nonlocal verdict
        if verdict is not Verdict.GOING:
            return
        steps_s = [float(line["step_s"]) for line in read_jsonl(run.metrics)] if run.metrics.is_file() else []
        verdict = judge(steps_s, rule=site.rule, best_s=best_s)
        if verdict is Verdict.GOING and (site.stop or time.monotonic() > site.deadline_s):
            verdict = Verdict.OUT_OF_TIME
        if verdict is not Verdict.GOING:
            received.extend([signal.SIGINT, signal.SIGINT])  # a second one kills: there is nothing to save

    environment = rank_environment(attempt, num_processes=site.num_processes)
    code = run_node(command, env=environment, received=received, log=attempt.folder / "node_0000.log", watch=watch)
    reason = describe_exit(code) if verdict is Verdict.GOING else f"tune: {verdict}"
    close_attempt(run, attempt, reason=reason, exit_code=code)
    return verdict, code


def _by_itself(run: RunDir, code: int, steps_s: tuple[float, ...], rule: Rule) -> tuple[Verdict, str]:
    """A trial that ended before it was told to: a short recipe, or a failure."""
    if code == 0:
        if measured_s(steps_s, rule=rule) is not None:
            return Verdict.MEASURED, "the recipe has no more steps"
        return Verdict.FAILED, f"the recipe has {len(steps_s)} steps, too few to measure after {rule.warmup_steps} of warm-up"
    folder = run.attempt_dirs()[-1]
    logs = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.log"))]
    return died_of(code, logs)
