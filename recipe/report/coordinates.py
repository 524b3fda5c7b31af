"""The muP coordinate check: verdicts by module, and curves drawn on the server (they print, and need no script).

Curves are sizes relative to the smallest model, so that a correct parametrisation is flat and the allowed slopes are a wedge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean
from typing import Any

from recipe.report.collect import RunView

WIDTH, HEIGHT = 230.0, 150.0
LEFT, RIGHT, TOP, BOTTOM = 32.0, 10.0, 8.0, 22.0
TABLE_KEYS = ("parametrization", "scale_emb", "scale_depth", "init_std", "alpha")  # what a run and its check have in common
QUANTITIES = ("initial", "update")


@dataclass(frozen=True)
class Curve:
    """One quantity over size of the model: the seeds' means joined by a path, and every seed as a dot."""

    quantity: str
    path: str
    dots: list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One module; `slopes` by quantity, `allowed` as text, `wedge` the outline of the allowed slopes."""

    module: str
    slopes: dict[str, float]
    allowed: dict[str, str]
    passed: bool
    failed: list[str]
    curves: list[Curve]
    wedge: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]

    @property
    def label(self) -> str:
        return self.module.replace("_", " ")


@dataclass(frozen=True)
class CoordinateCheck:
    """What `coord-check.json` says, ready to be drawn; `foreign` names what the run itself has otherwise."""

    parametrization: str
    foreign: list[str]
    axis: str
    sizes: list[int]
    num_seeds: int
    num_steps: int
    passed: bool
    panels: list[Panel]


def coordinate_check(view: RunView) -> CoordinateCheck | None:
    """The run's coordinate check, or None where there was none."""
    found = view.coord_check
    if not found or not found["measurements"]:
        return None
    measured = found["measurements"]
    sizes = sorted({one["size"] for one in measured})
    verdicts: dict[str, list[dict[str, Any]]] = {}
    for verdict in found["verdicts"]:
        verdicts.setdefault(verdict["module"], []).append(verdict)
    points = {(module, q): _relative(measured, module, q) for module in verdicts for q in QUANTITIES}
    scale = _Scale.around(points, sizes, max(verdict["tolerance"] for verdict in found["verdicts"]))
    return CoordinateCheck(
        found["mup"]["parametrization"], _foreign(view, found["mup"]), measured[0]["axis"], sizes,
        len({one["seed"] for one in measured}),
        found["setting"]["steps"], found["passed"],
        [_panel(module, told, points, scale) for module, told in verdicts.items()],
    )


def _foreign(view: RunView, checked: Mapping[str, Any]) -> list[str]:
    """Settings of the muP table that the check had otherwise than the run: then it says nothing about the run."""
    own = view.resolved.config.mup.model_dump(mode="json")
    return [f"{key} {checked[key]} for {own[key]}" for key in TABLE_KEYS if checked[key] != own[key]]


def _relative(measured: Sequence[Mapping[str, Any]], module: str, quantity: str) -> list[tuple[int, float]]:
    """(size, ln of the measured value less its mean at the smallest size), a point a seed."""
    points = [(one["size"], _log_size(one, module, quantity)) for one in measured]
    smallest = min(size for size, _ in points)
    base = fmean(value for size, value in points if size == smallest)
    return [(size, value - base) for size, value in points]


def _log_size(one: Mapping[str, Any], module: str, quantity: str) -> float:
    """As the check itself counts: of an update, the mean of the steps' logarithms."""
    values = [one["initial"]] if quantity == "initial" else one["updates"]
    return fmean(log(max(value[module], 1e-300)) for value in values)


@dataclass(frozen=True)
class _Scale:
    """Logarithmic axes shared by all panels; y is in natural logarithms."""

    sizes: list[int]
    low: float
    high: float

    @classmethod
    def around(cls, points: Mapping[Any, list[tuple[int, float]]], sizes: list[int], tolerance: float) -> "_Scale":
        reach = tolerance * log(sizes[-1] / sizes[0])
        values = [value for line in points.values() for _, value in line] + [reach, -reach]
        room = 0.06 * (max(values) - min(values))
        return cls(sizes, min(values) - room, max(values) + room)

    def x(self, size: float) -> float:
        share = log(size / self.sizes[0]) / log(self.sizes[-1] / self.sizes[0])
        return LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12)

    def y(self, value: float) -> float:
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def x_ticks(self) -> list[tuple[float, str]]:
        return [(self.x(size), str(size)) for size in self.sizes]

    def y_ticks(self) -> list[tuple[float, str]]:
        """Powers of two, thinned to about five."""
        step = max(1, round((self.high - self.low) / log(2) / 5))
        powers = range(-60 * step, 60 * step + 1, step)
        seen = [power for power in powers if self.low <= power * log(2) <= self.high]
        return [(self.y(power * log(2)), f"×{2**power}" if power >= 0 else f"÷{2**-power}") for power in seen]


def _panel(module: str, told: list[dict[str, Any]], points: Mapping[Any, list[tuple[int, float]]], scale: _Scale) -> Panel:
    reach = max(verdict["tolerance"] for verdict in told) * log(scale.sizes[-1] / scale.sizes[0])
    first, last = scale.x(scale.sizes[0]), scale.x(scale.sizes[-1])
    return Panel(
        module,
        {verdict["quantity"]: verdict["slope"] for verdict in told},
        {v["quantity"]: f"±{v['tolerance']:g}" if v["bound"] == "both" else f"≤ {v['tolerance']:g}" for v in told},
        all(verdict["passed"] for verdict in told),
        [verdict["quantity"] for verdict in told if not verdict["passed"]],
        [_curve(quantity, points[module, quantity], scale) for quantity in QUANTITIES],
        f"M{first:.1f} {scale.y(0):.1f}L{last:.1f} {scale.y(reach):.1f}V{scale.y(-reach):.1f}Z",
        scale.x_ticks(), scale.y_ticks(),
    )


def _curve(quantity: str, points: list[tuple[int, float]], scale: _Scale) -> Curve:
    means = [(size, fmean(value for at, value in points if at == size)) for size in scale.sizes]
    path = "M" + "L".join(f"{scale.x(size):.1f} {scale.y(value):.1f}" for size, value in means)
    return Curve(quantity, path, [(scale.x(size), scale.y(value)) for size, value in points])
