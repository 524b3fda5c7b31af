"""Every file name of a run directory, in one place; drawn in the project's README.

A branch (a decay from some stable checkpoint) is a run directory of its own below `branches/`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from data_prep.atomic import write_json, write_text
from recipe.errors import RunError

STATE, MANIFEST = "state.json", "manifest.json"  # of a checkpoint; the manifest is written last: what has one is whole
COORD_CHECK = "coord-check.json"  # wherever a coordinate check is written to


@dataclass(frozen=True)
class RunDir:
    """Paths below one run; creating the object touches nothing."""

    root: Path

    @classmethod
    def existing(cls, root: str | Path) -> "RunDir":
        """A run directory that is there; raises `RunError` otherwise."""
        run = cls(Path(root))
        if not run.resolved.is_file():
            raise RunError(f"{root}: no run directory ({run.resolved.relative_to(run.root)} is missing)")
        return run

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def summary(self) -> Path:
        return self.root / "RUN.md"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def recipe(self) -> Path:
        return self.config / "recipe.yaml"

    @property
    def resolved(self) -> Path:
        return self.config / "resolved.json"

    @property
    def transformer(self) -> Path:
        return self.config / "transformer.json"

    @property
    def deepspeed(self) -> Path:
        return self.config / "deepspeed.json"

    @property
    def patches(self) -> Path:
        return self.config / "patches.json"

    @property
    def versions(self) -> Path:
        return self.config / "versions.json"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def jobs(self) -> Path:
        """What a cluster was asked to run: sbatch files, the chain's record, how each link ended."""
        return self.root / "jobs"

    @property
    def attempts(self) -> Path:
        return self.root / "attempts"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def latest(self) -> Path:
        return self.checkpoints / "LATEST"

    @property
    def branches(self) -> Path:
        return self.root / "branches"

    @property
    def eval(self) -> Path:
        return self.root / "eval"

    @property
    def coord_check(self) -> Path:
        """What `windtunnel coord-check --out RUN/coord-check` measured."""
        return self.root / "coord-check" / COORD_CHECK

    @property
    def export(self) -> Path:
        return self.root / "export"

    @property
    def plan(self) -> Path:
        """What the planner says of the run's layout, for the report."""
        return self.root / "plan.json"

    @property
    def whole_plan(self) -> Path:
        """The planner's ranking of layouts, pictures beside it, as `windtunnel plan --out RUN/plan` writes them."""
        return self.root / "plan" / "plan.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def attempt(self, number: int, job: str = "local") -> Path:
        return self.attempts / f"{number:03d}-{job}"

    def attempt_dirs(self) -> list[Path]:
        return sorted(path for path in self.attempts.glob("[0-9]*-*") if path.is_dir())

    def checkpoint(self, stage: str, tokens: int) -> Path:
        return self.checkpoints / f"{stage}-{tokens:015d}"

    def checkpoint_dirs(self) -> list[Path]:
        """Folders that bear a checkpoint's name, oldest first; one that isn't whole was damaged."""
        found = (path for path in self.checkpoints.glob("[!.]*-*") if path.is_dir())
        return sorted((path for path in found if path.name.rpartition("-")[2].isdigit()), key=tokens_of)

    def whole_checkpoints(self) -> list[Path]:
        """Checkpoints whose manifest is there, oldest first."""
        return [path for path in self.checkpoint_dirs() if (path / MANIFEST).is_file()]

    def heldout(self, stage: str, tokens: int) -> Path:
        return self.evaluation("heldout", stage, tokens)

    def evaluation(self, kind: str, stage: str, tokens: int) -> Path:
        """Results of one kind (heldout, samples, tasks, calibration, by-index) at one checkpoint."""
        return self.eval / f"{kind}-{stage}-{tokens:015d}.json"

    def branch_dirs(self) -> list["RunDir"]:
        return [RunDir(path) for path in sorted(self.branches.glob("*")) if (path / "config").is_dir()]


def tokens_of(checkpoint: Path) -> int:
    """Tokens consumed at a checkpoint, from its name."""
    return int(checkpoint.name.rpartition("-")[2])


def read_json(path: Path) -> Any:
    """A JSON file of a run; raises `RunError` naming it."""
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise RunError(f"{path}: not JSON ({error})") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file; a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [orjson.loads(line) for line in lines if line]


__all__ = ["RunDir", "read_json", "read_jsonl", "write_json", "write_text"]
