"""Finds a checkpoint of a run by folder, by name, or the last one. No torch."""

from pathlib import Path

from recipe.errors import RunError
from recipe.rundir import RunDir


def find_checkpoint(run: RunDir, name: str = "") -> Path:
    """Raises `RunError` with the names that are there."""
    if name:
        for path in (Path(name), run.checkpoints / name):
            if path.is_dir():
                return path
        names = ", ".join(sorted(path.name for path in run.checkpoints.glob("*-*") if path.is_dir()))
        raise RunError(f"{name}: no such checkpoint; {run.checkpoints} holds: {names or 'none'}")
    if not run.latest.is_file():
        raise RunError(f"{run.root}: has no checkpoint yet ({run.latest.relative_to(run.root)} is missing)")
    path = run.checkpoints / run.latest.read_text(encoding="utf-8").strip()
    if not path.is_dir():
        raise RunError(f"{run.latest}: names {path.name}, which isn't there")
    return path
