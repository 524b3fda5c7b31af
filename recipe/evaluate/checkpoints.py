"""Finds a checkpoint of a run by folder, by name, or the last whole one. No torch."""

from pathlib import Path

from recipe.errors import RunError
from recipe.rundir import RunDir

MANIFEST = "manifest.json"  # as recipe/checkpoint/format.py, which needs torch, names it


def whole_checkpoints(run: RunDir) -> list[Path]:
    """Oldest first, by the tokens in their names."""
    found = [path for path in run.checkpoints.glob("[a-z]*-*") if (path / MANIFEST).is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def find_checkpoint(run: RunDir, name: str = "") -> Path:
    """Raises `RunError` with the names that are there."""
    whole = whole_checkpoints(run)
    if name:
        for path in (Path(name), run.checkpoints / name):
            if path.is_dir():
                return path
        raise RunError(f"{name}: no such checkpoint; {run.checkpoints} holds: {', '.join(p.name for p in whole) or 'none'}")
    if not whole:
        raise RunError(f"{run.root}: has no whole checkpoint yet")
    return whole[-1]
