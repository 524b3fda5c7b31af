"""Reads the evaluations that a run directory holds. No torch."""

from typing import Any

from recipe.rundir import RunDir, read_json


def result_files(run: RunDir, prefix: str) -> list[dict[str, Any]]:
    """Every `eval/<prefix>-*.json`, by tokens."""
    results = [read_json(path) for path in run.eval.glob(f"{prefix}-*.json")]
    return sorted(results, key=lambda result: result.get("tokens", 0))


def heldout_results(run: RunDir) -> list[dict[str, Any]]:
    """Every held-out evaluation of a run."""
    return result_files(run, "heldout")


def latest_heldout(run: RunDir) -> dict[str, Any] | None:
    """The held-out evaluation after the most tokens."""
    return _last(heldout_results(run))


def latest_samples(run: RunDir) -> dict[str, Any] | None:
    """The sample continuations after the most tokens."""
    return _last(result_files(run, "samples"))


def _last(results: list[dict[str, Any]]) -> dict[str, Any] | None:
    return results[-1] if results else None
