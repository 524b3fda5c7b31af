"""What the planner said of a run's layout, beside what the run measured: RUN/plan.json; and of all layouts: RUN/plan/."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from recipe.report.collect import RunView
from recipe.report.images import address
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


@dataclass(frozen=True)
class Ranked:
    """One layout of the plan's table; `own`: the one that the run trained in."""

    label: str
    step_s: float
    tokens_per_s: float
    mfu_frac: float
    memory: str
    bubble_frac: float
    own: bool


@dataclass(frozen=True)
class Plan:
    """The planner's ranking for one run's model and batch; pictures as (name, data address)."""

    run: str
    cluster: str
    num_legal: int
    num_fit: int
    ranked: list[Ranked]
    pictures: list[tuple[str, str]]


def predictions(views: Sequence[RunView]) -> list[Prediction]:
    """Of the runs that have a prediction; steps of the recipe's full batch are compared."""
    return [_prediction(view) for view in views if view.run.plan.is_file() and view.metrics]


def plans(views: Sequence[RunView]) -> list[Plan]:
    """Of the runs beside which one was drawn."""
    return [_plan(view) for view in views if view.run.whole_plan.is_file()]


def _plan(view: RunView) -> Plan:
    file = view.run.whole_plan
    told = read_json(file)
    cluster = told["cluster"]
    pictures = [file.with_name(Path(path).name) for path in told.get("pictures", [])]
    return Plan(
        view.name, f"{cluster['num_gpus']} × {cluster['gpu']}", told["num_legal"], told["num_fit"],
        [_ranked(view, one) for one in told["ranked"]],
        [(path.stem, address(path)) for path in pictures if path.is_file()],
    )


def _ranked(view: RunView, one: dict[str, Any]) -> Ranked:
    layout, row = view.resolved.layout, one["layout"]
    own = all(row[key] == getattr(layout, key) for key in ("tp", "pp", "vp", "cp", "dp", "recompute"))
    own = own and row["mbs"] == view.resolved.config.batch.micro_seqs  # ZeRO and offload hardly change the time: one row
    return Ranked(
        one["label"], one["step_s"], one["tokens_per_s"], one["mfu_6n_frac"], format_bytes(int(one["memory_bytes"]["device"])),
        one["parts_s"]["bubble"] / one["step_s"], own,
    )


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
