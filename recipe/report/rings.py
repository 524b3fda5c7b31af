"""Mixtures as rings (Figure 2 of the report), drawn on the server so that they print and need no script."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi, sin

RADIUS, WIDTH, GAP_RAD = 84.0, 26.0, 0.012
MIN_LABEL_FRAC = 0.045


@dataclass(frozen=True)
class Slice:
    """One source of a ring."""

    name: str
    percent: float
    color: int
    path: str
    label_x: float
    label_y: float
    labelled: bool


def ring(mixture: Mapping[str, float], colors: Mapping[str, int]) -> list[Slice]:
    """Slices clockwise from the top, the largest first."""
    total = sum(mixture.values())
    slices, start = [], 0.0
    for name, weight in sorted(mixture.items(), key=lambda item: -item[1]):
        share = weight / total
        middle = 2 * pi * (start + share / 2)
        slices.append(
            Slice(
                name, 100 * share, colors[name], _arc(start, start + share),
                (RADIUS - WIDTH / 2) * sin(middle), -(RADIUS - WIDTH / 2) * cos(middle), share >= MIN_LABEL_FRAC,
            )
        )
        start += share
    return slices


def _arc(start: float, end: float) -> str:
    """SVG path of a ring segment between two fractions of the circle."""
    if end - start > 0.9999:
        return _arc(0, 0.5) + _arc(0.5, 0.99995)
    gap = min(GAP_RAD, (end - start) * pi / 2)
    first, last = 2 * pi * start + gap, 2 * pi * end - gap
    large = int(last - first > pi)
    inner = RADIUS - WIDTH
    (ax, ay), (bx, by) = _point(RADIUS, first), _point(RADIUS, last)
    (cx, cy), (dx, dy) = _point(inner, last), _point(inner, first)
    return (
        f"M{ax:.2f} {ay:.2f}A{RADIUS:g} {RADIUS:g} 0 {large} 1 {bx:.2f} {by:.2f}"
        f"L{cx:.2f} {cy:.2f}A{inner:g} {inner:g} 0 {large} 0 {dx:.2f} {dy:.2f}Z"
    )


def _point(radius: float, angle: float) -> tuple[float, float]:
    return radius * sin(angle), -radius * cos(angle)
