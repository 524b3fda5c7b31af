"""Finds a checkpoint of a run by folder, by name, or the last whole one. No torch."""

from pathlib import Path

from recipe.errors import RunError
from recipe.rundir import RunDir


def find_checkpoint(run: RunDir, name: str = "") -> Path:
    """Raises `RunError` with the names that are there."""
    whole = run.whole_checkpoints()
    if name:
        for path in (Path(name), run.checkpoints / name):
            if path.is_dir():
                return path
        raise RunError(f"{name}: no such checkpoint; {run.checkpoints} holds: {', '.join(p.name for p in whole) or 'none'}")
    if not whole:
        raise RunError(f"{run.root}: has no whole checkpoint yet")
    return whole[-1]
