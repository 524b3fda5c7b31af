"""The report's benchmarks: each run's last results beside published ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.errors import RunError
from recipe.evaluate.agents.run import BENCHMARKS
from recipe.evaluate.suite import COMMONSENSE, REASONING
from recipe.report.collect import RunView
from recipe.rundir import read_json

GROUPS = {"commonsense": tuple(COMMONSENSE), "complex reasoning": tuple(REASONING), "agents": tuple(BENCHMARKS)}
REPORTED = {name: task.reported for name, task in {**COMMONSENSE, **REASONING}.items()} | {
    name: benchmark.reported for name, benchmark in BENCHMARKS.items()
}
OWN_REPORT = "Xmodel-2-1.2B (arXiv 2412.19638)"


@dataclass(frozen=True)
class Line:
    """One benchmark in per cent; None where nobody measured it. `note` says how much of it was run."""

    name: str
    values: list[float | None]
    published: list[float | None]
    note: str


@dataclass(frozen=True)
class Group:
    """Benchmarks of one kind with their means, which stand only where every benchmark was run."""

    name: str
    lines: list[Line]
    means: list[float | None]
    published_means: list[float | None]


def load_published(path: Path | None) -> dict[str, dict[str, float]]:
    """Model → benchmark → per cent: Xmodel-2's own row, and those of a JSON file of that form.

    Raises:
        RunError: The file names a benchmark that there isn't, or holds no numbers.
    """
    rows: dict[str, dict[str, float]] = {OWN_REPORT: dict(REPORTED)}
    for model, found in (read_json(path) if path else {}).items():
        if not isinstance(found, Mapping) or not all(isinstance(value, int | float) for value in found.values()):
            raise RunError(f"{path}: {model}: must map benchmarks to per cent")
        if unknown := sorted(set(found) - set(REPORTED)):
            raise RunError(f"{path}: {model}: no benchmark {unknown[0]}; known: {', '.join(REPORTED)}")
        rows[model] = dict(found)
    return rows


def last_results(view: RunView) -> dict[str, dict[str, Any]]:
    """Benchmark → its result after the most tokens."""
    found: dict[str, dict[str, Any]] = {}
    for kind in ("tasks", "agents"):
        for result in view.results(kind):
            found |= {name: row | {"tokens": result["tokens"]} for name, row in result[kind].items() if "value" in row}
    return found


def benchmark_groups(views: Sequence[RunView], published: Mapping[str, Mapping[str, float]]) -> list[Group]:
    """Groups of which some run has a result; [] where none was evaluated."""
    results = [last_results(view) for view in views]
    groups = []
    for title, names in GROUPS.items():
        if not any(name in found for found in results for name in names):
            continue
        lines = [
            Line(
                name, [100 * found[name]["value"] if name in found else None for found in results],
                [row.get(name) for row in published.values()], _note([found[name] for found in results if name in found]),
            )
            for name in names
        ]
        groups.append(
            Group(
                title, lines, [_mean(column) for column in zip(*(line.values for line in lines))],
                [_mean(column) for column in zip(*(line.published for line in lines))],
            )
        )
    return groups


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _note(rows: Sequence[Mapping[str, Any]]) -> str:
    numbers = sorted({row["num_questions"] for row in rows})
    shots = {f"{row['few_shot']}-shot" for row in rows if row.get("few_shot")}
    return ", ".join([*sorted(shots), *(f"{number:,} questions" for number in numbers)])
