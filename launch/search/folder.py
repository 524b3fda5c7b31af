"""Every file of a study's folder. Each has one writer; all are written whole, so a kill leaves a file or none.

    README.md study.json recipe.yaml environment.json results.jsonl proposal.yaml *.png     what is kept
    work/trials/00012.json        asked for by the owner, before any worker hears of it
    work/results/00012.json       written by the worker that ran it
    work/workers/NAME.json        a worker's heartbeat: a counter, so that no two clocks are compared
    work/assigned/NAME.json       what the owner tells that worker
    work/owner.json  work/data.json  work/checkpoints/
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from data_prep.atomic import write_json, write_text
from launch.search.errors import SearchError
from launch.search.trial import Result, Trial
from recipe.config import RunConfig
from recipe.load import validate

FILES = (
    "`study.json` has what was asked, `recipe.yaml` the recipe, `environment.json` versions and digests of the data,\n"
    "`results.jsonl` every trial, `proposal.yaml` the fragment for a recipe."
)


@dataclass(frozen=True)
class Study:
    """Paths and records below one folder; creating the object touches nothing."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "study.json"

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def kept_results(self) -> Path:
        return self.root / "results.jsonl"

    @property
    def proposal(self) -> Path:
        return self.root / "proposal.yaml"

    @property
    def readme(self) -> Path:
        return self.root / "README.md"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def data(self) -> Path:
        return self.work / "data.json"

    @property
    def owner(self) -> Path:
        return self.work / "owner.json"

    def worker(self, name: str) -> Path:
        return self.work / "workers" / f"{name}.json"

    def worker_log(self, name: str) -> Path:
        return self.work / "workers" / f"{name}.log"

    def assigned(self, name: str) -> Path:
        return self.work / "assigned" / f"{name}.json"

    def trial(self, number: int) -> Path:
        return self.work / "trials" / f"{number:05d}.json"

    def result(self, number: int) -> Path:
        return self.work / "results" / f"{number:05d}.json"

    def begin(self, spec: dict[str, Any]) -> None:
        """Makes the folder for a study of this description, or checks that it holds one of the same.

        Raises:
            SearchError: It holds another study; the message has the differences.
        """
        there = read_or_none(self.spec)
        if there is None:
            write_json(self.spec, spec)
            return
        there, spec = _whole(there), _whole(spec)
        different = [key for key in {**there, **spec} if there.get(key) != spec.get(key)]  # an option of later days is None
        if different:
            lines = [f"{self.root}: holds another study; differences (there → asked for):"]
            lines += [f"  {key}: {there.get(key)} → {spec.get(key)}" for key in different]
            raise SearchError("\n".join([*lines, "  choose another --out, or repeat its own command to go on with it"]))

    def ask(self, trial: Trial) -> None:
        """Records a trial before it runs; raises `SearchError` if the folder has another under its number."""
        there = read_or_none(self.trial(trial.number))
        asked = trial.model_dump(mode="json")
        if there is None:
            write_json(self.trial(trial.number), asked)
        elif Trial.model_validate(there) != trial:
            raise SearchError(
                f"{self.trial(trial.number)}: this version of the program asks for another trial than the study did; "
                f"finish it with the version in {self.environment.name}, or start a new one"
            )

    def results(self) -> dict[int, Result]:
        """All results by number: those kept from before, and those of workers."""
        lines = self.kept_results.read_bytes().splitlines() if self.kept_results.is_file() else []
        found = [Result.model_validate(orjson.loads(line)) for line in lines]
        found += [Result.model_validate_json(path.read_bytes()) for path in (self.work / "results").glob("[0-9]*.json")]
        return {result.trial.number: result for result in sorted(found, key=lambda one: one.trial.number)}

    def keep_results(self) -> None:
        """Writes results.jsonl, the part of the study that stays when `work` is removed."""
        write_text(self.kept_results, "".join(one.model_dump_json() + "\n" for one in self.results().values()))


def _whole(spec: dict[str, Any]) -> dict[str, Any]:
    """A description with every key of its recipe, those too that the recipes of its day didn't have."""
    if "recipe" not in spec:
        return spec
    return spec | {"recipe": validate(RunConfig, spec["recipe"], where="study.json")}


def read_or_none(path: Path) -> Any:
    """A JSON file that may not be there yet."""
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
