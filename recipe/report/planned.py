"""What the planner said of a run's layout, beside what the run measured. The prediction is in RUN/plan.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from recipe.report.collect import RunView
from recipe.rundir import read_json
from recipe.units import format_bytes, format_count


@dataclass(frozen=True)
class Comparison:
    """One quantity; `off_frac` is prediction over measurement, less one."""

    name: str
    predicted: str
    measured: str
    off_frac: float | None


@dataclass(frozen=True)
class Prediction:
    """One run's."""

    run: str
    device: str
    label: str
    rows: list[Comparison]
    caveats: list[str]


def predictions(views: Sequence[RunView]) -> list[Prediction]:
    """Of the runs that have a prediction; steps of the recipe's full batch are compared."""
    return [_prediction(view) for view in views if view.run.plan.is_file() and view.metrics]


def _prediction(view: RunView) -> Prediction:
    plan = read_json(view.run.plan)
    config = view.resolved.config
    full = config.batch.global_tokens // config.block_tokens  # what the plan is for
    steps = [row for row in view.metrics if row["batch_seqs"] == full] or view.metrics
    step_s, tokens_per_s = (median(row[key] for row in steps) for key in ("step_s", "tokens_per_s"))
    memory = max((row.get("memory_bytes") or 0 for row in steps), default=0)
    rows = [
        _row("seconds a step, median", plan["step_s"], step_s, lambda value: f"{value:.3g}"),
        _row("tokens a second", plan["tokens_per_s"], tokens_per_s, format_count),
        _row("memory of a rank, peak", plan["memory_bytes"]["device"], memory, lambda value: format_bytes(int(value))),
    ]
    return Prediction(view.name, plan["device"], plan["label"], rows, plan["outside_validation"])


def _row(name: str, predicted: float, measured: float, text) -> Comparison:
    off = predicted / measured - 1 if measured else None
    return Comparison(name, text(predicted), text(measured) if measured else "–", off)
