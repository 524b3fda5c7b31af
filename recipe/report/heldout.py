"""The held-out table: the model beside what counting achieves, whichever way they fall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recipe.evaluate.baselines import NAMES
from recipe.report.collect import RunView

ORDERS = tuple(NAMES.values())


@dataclass(frozen=True)
class Row:
    """One source of one run; positions are fractions of the common scale of all rows."""

    run: str
    source: str
    loss_nats: float
    bits_per_byte: float
    num_tokens: int
    baselines: dict[str, float]
    position: float
    positions: dict[str, float]

    @property
    def best(self) -> tuple[str, float] | None:
        """The strongest baseline."""
        return min(self.baselines.items(), key=lambda item: item[1]) if self.baselines else None

    @property
    def gain_nats(self) -> float | None:
        """How far the model is below the strongest baseline; negative where it is above."""
        return self.best[1] - self.loss_nats if self.best else None


def heldout_rows(views: Sequence[RunView]) -> list[Row]:
    """Rows by source, then by run, of each run's last evaluation."""
    found = [(view.name, name, row) for view in views if view.heldout for name, row in view.heldout[-1]["sources"].items()]
    order = {name: index for index, name in enumerate(dict.fromkeys(name for _, name, _ in found))}
    values = [value for _, _, row in found for value in (row["loss_nats"], *row.get("baselines", {}).values())]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)

    def position(value: float) -> float:
        return 0.02 + 0.96 * (value - low) / ((high - low) or 1.0)

    return [_row(run, name, row, position) for run, name, row in sorted(found, key=lambda item: order[item[1]])]


def victories(rows: Sequence[Row], run: str) -> dict[str, tuple[int, int]]:
    """Baseline → (sources where the run's model is below it, sources where it is known)."""
    own = [row for row in rows if row.run == run]
    gains = {order: [row.baselines[order] - row.loss_nats for row in own if order in row.baselines] for order in ORDERS}
    return {order: (sum(gain > 0 for gain in known), len(known)) for order, known in gains.items() if known}


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run; loss by source in nats, and the change since the evaluation before."""

    run: str
    stage: str
    tokens: int
    losses: dict[str, float]
    changes: dict[str, float]


def evaluations(views: Sequence[RunView]) -> list[Evaluation]:
    """All held-out evaluations by run and tokens; none where every run was evaluated once at most."""
    if all(len(view.heldout) < 2 for view in views):
        return []
    rows = []
    for view in views:
        before: dict[str, float] = {}
        for result in view.heldout:
            losses = {name: row["loss_nats"] for name, row in result["sources"].items()}
            changes = {name: loss - before[name] for name, loss in losses.items() if name in before}
            rows.append(Evaluation(view.name, result["stage"], result["tokens"], losses, changes))
            before = losses
    return rows


def _row(run: str, name: str, row: dict[str, Any], position: Any) -> Row:
    baselines = {order: row["baselines"][order] for order in ORDERS if order in row.get("baselines", {})}
    places = {order: position(value) for order, value in baselines.items()}
    return Row(
        run, name, row["loss_nats"], row["bits_per_byte"], row["num_tokens"], baselines, position(row["loss_nats"]), places
    )
