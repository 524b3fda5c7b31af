"""Reads the evaluations that a run directory holds. No torch."""

from typing import Any

from recipe.rundir import RunDir, read_json


def heldout_results(run: RunDir) -> list[dict[str, Any]]:
    """Every held-out evaluation of a run, by tokens."""
    results = [read_json(path) for path in run.eval.glob("heldout-*.json")]
    return sorted(results, key=lambda result: result["tokens"])


def latest_heldout(run: RunDir) -> dict[str, Any] | None:
    """The held-out evaluation after the most tokens."""
    results = heldout_results(run)
    return results[-1] if results else None
