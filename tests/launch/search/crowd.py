"""Owner and workers of a study as real processes, with a formula instead of training.

    python -m tests.launch.search.crowd owner|worker STUDY [NAME]
"""

import sys
import time
from pathlib import Path

from launch.search.folder import Study
from launch.search.owner import Owner
from launch.search.sweep.study import Sweep, SweepSpec
from launch.search.trial import Result, Trial, objective_of
from launch.search.worker import serve
from recipe.load import load_recipe

PATIENCE_S = 4.0
SPEC = SweepSpec(search=("peak_lr=0.001:0.1:log", "scale_depth=1:5:step=0.1"), trials=16, seeds=2, finalists=2)


def losses(trial: Trial) -> dict[str, float]:
    return {"docs": 3 + trial.number % 7 / 10 + trial.point["optim.peak_lr"]}


def run(study: Study, name: str, trial: Trial) -> Result:
    """Notes that it began, in a file of its own, and takes its time."""
    with open(study.root / f"began-{name}.txt", "a") as file:
        file.write(f"{trial.number}\n")
    time.sleep(0.15)
    found = losses(trial)
    return Result(trial=trial, status="done", losses=found, objective=objective_of(found, {}))


def main(role: str, root: str, name: str = "") -> None:
    study = Study(Path(root))
    if role == "worker":
        serve(study, name=name, run=lambda trial: run(study, name, trial), patience_s=60)
        return
    study.begin(SPEC.model_dump(mode="json"))
    with Owner(study, patience_s=PATIENCE_S) as owner:
        Sweep(SPEC, load_recipe("demo"), owner.run).conduct()
        owner.dismiss()
    study.keep_results()


if __name__ == "__main__":
    main(*sys.argv[1:])
