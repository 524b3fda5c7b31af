"""Trials as an array of SLURM jobs, each on a node of its own, and their results as one answer.

submit_trials(folder, arguments, num_trials=6, site=load_site("h100"), data_dir=Path("data"))
collect(folder, problem, known)
"""

from pathlib import Path
from typing import Any

from launch.cluster import Site
from launch.plan.calibration import Calibration
from launch.plan.errors import PlanError
from launch.plan.search import Problem, price
from launch.plan.shapes import Layouts
from launch.slurm.array import submit_array
from launch.tune.learn import learn
from launch.tune.loop import Answer
from launch.tune.trial import Result
from launch.tune.verdict import Verdict
from recipe.rundir import read_json


def task_folder(folder: Path, index: int) -> Path:
    return folder / f"task_{index:02d}"


def submit_trials(folder: Path, arguments: list[str], *, num_trials: int, site: Site, data_dir: Path) -> list[int]:
    """One task for each of the best candidates; those that succeeded before aren't repeated. Returns the submitted ones.

    Args:
        folder: Gets the jobs' files and a folder for each task.
        arguments: Of `windtunnel tune`, all but what tells a task its place.
        num_trials: Candidates, the best predictions first.
        site: Where; a task has one node.
        data_dir: Tokenizer and shards, made already.
    """
    commands = [
        ["tune", *arguments, "--only", str(index), "--out", str(task_folder(folder, index).absolute())]
        for index in range(num_trials)
    ]
    return submit_array(folder, commands, site=site, name="trials", purpose="short runs of a plan's layouts", data_dir=data_dir)


def collect(folder: Path, problem: Problem, known: Calibration) -> Answer:
    """All results that are there, as if one process had run them.

    Raises:
        PlanError: there is none.
    """
    rows = [row for path in sorted(folder.glob("task_*/tune.json")) for row in read_json(path)["results"]]
    if not rows:
        raise PlanError(f"{folder}: no task has a result yet; `windtunnel status {folder}` says how they are")
    results = sorted((_result(row, problem, known) for row in rows), key=lambda one: one.candidate.step_s)
    return Answer(tuple(results), learn(problem, known, results))


def _result(row: dict[str, Any], problem: Problem, known: Calibration) -> Result:
    layout = {key: value for key, value in row["layout"].items() if key in Layouts.__dataclass_fields__}
    return Result(
        price(problem, Layouts.one(**layout), known)[0], Verdict(row["verdict"]), steps_s=tuple(row["steps_s"]),
        step_s=row["measured_s"], memory_bytes=row["measured_bytes"], detail=row["detail"],
    )  # fmt: skip
