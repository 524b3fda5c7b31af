"""Calibration (Figure 4 of the report) and loss by token index (Figure 5), drawn on the server: they need no script."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log10
from typing import Any

import numpy as np

from recipe.evaluate.powerlaw import PowerLaw
from recipe.report.collect import RunView
from recipe.units import format_count

WIDTH, HEIGHT = 420.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 12.0, 34.0
REPORT_LAW = "Xmodel-2 on Wikitext-2: a = −0.575, b = 1.772, c = 32.840"
Ticks = list[tuple[float, str]]


@dataclass(frozen=True)
class Reliability:
    """Bars of accuracy by confidence: (x, y, width, height, title) each, and dots at the bins' mean confidence."""

    run: str
    caption: str
    bars: list[tuple[float, float, float, float, str]]
    dots: list[tuple[float, float]]
    diagonal: str
    x_ticks: Ticks
    y_ticks: Ticks


@dataclass(frozen=True)
class IndexCurve:
    """Mean loss by index with its standard error as a band, and the fitted law."""

    run: str
    caption: str
    constants: list[tuple[str, str, str]]
    path: str
    band: str
    law: str
    x_ticks: Ticks
    y_ticks: Ticks


def reliabilities(views: Sequence[RunView]) -> list[Reliability]:
    """Of each run's last calibration."""
    found = [(view, view.results("calibration")) for view in views]
    return [_reliability(view.name, results[-1]) for view, results in found if results]


def _reliability(run: str, result: dict[str, Any]) -> Reliability:
    found = result["calibration"]
    bars = []
    for one in found["bins"]:
        top = _y(one["accuracy"], 0, 1)
        told = f"confidence {one['confidence']:.3f}, accuracy {one['accuracy']:.3f}, {one['count']} questions"
        bars.append((_x(one["low"], 0, 1) + 1, top, _x(one["high"], 0, 1) - _x(one["low"], 0, 1) - 2, _y(0, 0, 1) - top, told))
    caption = (
        f"after {format_count(result['tokens'])} tokens: accuracy {found['accuracy']:.3f}, ECE {found['ece']:.3f}, "
        f"{found['num_questions']:,} questions. Xmodel-2: accuracy 0.46, ECE 0.060."
    )
    tenths = [(share / 10, f"{share / 10:.1f}") for share in range(0, 11, 2)]
    return Reliability(
        run, caption, bars, [(_x(one["confidence"], 0, 1), _y(one["accuracy"], 0, 1)) for one in found["bins"]],
        f"M{_x(0, 0, 1):.1f} {_y(0, 0, 1):.1f}L{_x(1, 0, 1):.1f} {_y(1, 0, 1):.1f}",
        [(_x(value, 0, 1), text) for value, text in tenths], [(_y(value, 0, 1), text) for value, text in tenths],
    )


def index_curves(views: Sequence[RunView]) -> list[IndexCurve]:
    """Of each run's last loss by token index, where a power law could be fitted."""
    found = [(view, view.results("by-index")) for view in views]
    return [_index_curve(view.name, results[-1]) for view, results in found if results and results[-1]["by_index"]["fit"]]


def _index_curve(run: str, result: dict[str, Any]) -> IndexCurve:
    found, law = result["by_index"], PowerLaw(**result["by_index"]["fit"])
    index, loss, error = found["index"], found["loss_nats"], found["error_nats"]
    fitted = law(np.array(index, dtype=np.float64)).tolist()
    low, high = min(*loss, *fitted), max(*loss, *fitted)
    end = log(max(index[-1], 2))

    def place(t: float, value: float) -> str:
        return f"{_x(log(t), 0, end):.1f} {_y(min(max(value, low), high), low, high):.1f}"

    upper = [place(t, value + spread) for t, value, spread in zip(index, loss, error, strict=True)]
    lower = [place(t, value - spread) for t, value, spread in zip(index, loss, error, strict=True)]
    powers = [10**power for power in range(int(log10(index[-1])) + 1)]
    levels = [low + (high - low) * part / 4 for part in range(5)]
    after = f"after {format_count(result['tokens'])} tokens"
    caption = f"{found['text']}, {found['num_windows']:,} contexts, {after}. {REPORT_LAW}."
    return IndexCurve(
        run, caption,
        [(name, f"{getattr(law, name):.4g}", "{:.4g} to {:.4g}".format(*getattr(law, f"{name}_interval"))) for name in "abc"],
        "M" + "L".join(place(t, value) for t, value in zip(index, loss, strict=True)),
        "M" + "L".join([*upper, *reversed(lower)]) + "Z",
        "M" + "L".join(place(t, value) for t, value in zip(index, fitted, strict=True)),
        [(_x(log(t), 0, end), str(t)) for t in powers], [(_y(level, low, high), f"{level:.2f}") for level in levels],
    )


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / ((high - low) or 1.0)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / ((high - low) or 1.0)
