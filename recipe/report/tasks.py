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
OWN_REPORT = "Xmodel-2-1.2B"
OTHERS = Path(__file__).with_name("published.json")
"""The other models of Tables 2 to 4 of the Xmodel-2 report (arXiv 2412.19638), as printed there."""


@dataclass(frozen=True)
class Row:
    """One model's values of a group's benchmarks in per cent, None where nobody measured; a mean only of all of them."""

    model: str
    values: list[float | None]

    @property
    def mean(self) -> float | None:
        known = [value for value in self.values if value is not None]
        return sum(known) / len(known) if len(known) == len(self.values) else None


@dataclass(frozen=True)
class Group:
    """Benchmarks of one kind; `notes` says how much of each was run here; published rows rise to the best mean."""

    name: str
    benchmarks: Sequence[str]
    notes: list[str]
    runs: list[Row]
    published: list[Row]

    @property
    def was_run(self) -> bool:
        return any(self.notes)


def load_published(path: Path | None) -> dict[str, dict[str, float]]:
    """Model → benchmark → per cent: the Xmodel-2 report's rows, and those of a JSON file of that form, which win.

    Raises:
        RunError: The file names a benchmark that there isn't, or holds no numbers.
    """
    rows: dict[str, dict[str, float]] = read_json(OTHERS) | {OWN_REPORT: dict(REPORTED)}
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
    """Every group, its runs' rows empty where nothing was evaluated."""
    results = {view.name: last_results(view) for view in views}
    groups = []
    for title, names in GROUPS.items():
        runs = [
            Row(run, [100 * found[name]["value"] if name in found else None for name in names])
            for run, found in results.items()
        ]
        others = [Row(model, [row.get(name) for name in names]) for model, row in published.items()]
        others = [row for row in others if any(value is not None for value in row.values)]
        notes = [_note([found[name] for found in results.values() if name in found]) for name in names]
        groups.append(Group(title, names, notes, runs, sorted(others, key=lambda row: row.mean or 0.0)))
    return groups


def _note(rows: Sequence[Mapping[str, Any]]) -> str:
    numbers = sorted({row["num_questions"] for row in rows})
    shots = {f"{row['few_shot']}-shot" for row in rows if row.get("few_shot")}
    return ", ".join([*sorted(shots), *(f"{number:,} questions" for number in numbers)])
