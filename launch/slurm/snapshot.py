"""The code that a run uses: copied into its directory at submission, with the commit and what differed from it."""

import shutil
import subprocess
from pathlib import Path

from data_prep.atomic import write_text
from recipe.rundir import RunDir

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("data_prep", "megatron_patches", "recipe", "launch")


def source_dir(run: RunDir) -> Path:
    """What goes first on PYTHONPATH."""
    return run.code / "src"


def snapshot_code(run: RunDir) -> None:
    """Copies the four packages to `code/src`; `code/commit` and `code/diff.patch` say what they are. Done once for a run."""
    if source_dir(run).is_dir():
        return
    building = run.code / "src.tmp"
    shutil.rmtree(building, ignore_errors=True)
    for package in PACKAGES:
        shutil.copytree(CHECKOUT / package, building / package, ignore=shutil.ignore_patterns("__pycache__", "*.tmp", "build"))
    commit = _git("rev-parse", "HEAD")
    write_text(run.code / "commit", commit or "not a git checkout\n")
    write_text(run.code / "diff.patch", _git("diff", "HEAD", "--", *PACKAGES) if commit else "")
    building.rename(source_dir(run))


def _git(*arguments: str) -> str:
    """git's answer about the checkout; empty where it isn't one."""
    try:
        done = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
