"""Evaluations beside a run: which checkpoints still lack what is wanted, and whether more will come. No torch."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from recipe.evaluate.run import Wanted
from recipe.prepare import load_resolved
from recipe.rundir import RunDir, read_json

POLL_S = 30.0


def pending_checkpoints(run: RunDir, wanted: Wanted) -> Iterator[tuple[Path, Wanted]]:
    """Whole checkpoints, oldest first, each with what of `wanted` has no result yet.

    A checkpoint that retention removes before its turn is not evaluated; `checkpoint.keep_every_tokens` keeps them.
    """
    for folder in run.whole_checkpoints():
        stage, _, tokens = folder.name.rpartition("-")
        if folder.is_dir() and (lacking := _lacking(run, wanted, stage, int(tokens))) is not None:
            yield folder, lacking


def is_finished(run: RunDir) -> bool:
    """Whether the checkpoint after the run's last step is there."""
    last = load_resolved(run).stages[-1]
    return run.checkpoint(last.name, last.end_tokens) in run.whole_checkpoints()


def _lacking(run: RunDir, wanted: Wanted, stage: str, tokens: int) -> Wanted | None:
    tasks, agents = (_done(run.evaluation(kind, stage, tokens), kind) for kind in ("tasks", "agents"))
    lacking = replace(
        wanted,
        heldout=wanted.heldout and not _has_heldout(run.heldout(stage, tokens), baselines=wanted.baselines),
        tasks=tuple(name for name in wanted.tasks if name not in tasks),
        agents=tuple(name for name in wanted.agents if name not in agents),
        calibration=wanted.calibration and not run.evaluation("calibration", stage, tokens).is_file(),
        by_index="" if run.evaluation("by-index", stage, tokens).is_file() else wanted.by_index,
    )
    left = (lacking.heldout, lacking.tasks, lacking.agents, lacking.calibration, lacking.by_index)
    return lacking if any(left) else None


def _done(path: Path, kind: str) -> set[str]:
    return {name for name, row in read_json(path)[kind].items() if "value" in row} if path.is_file() else set()


def _has_heldout(path: Path, *, baselines: bool) -> bool:
    """Training itself writes the losses, without baselines."""
    if not path.is_file():
        return False
    return not baselines or all(row["baselines"] for row in read_json(path)["sources"].values())
