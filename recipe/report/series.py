"""Long series made short enough for a page, without hiding what they do. No torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 900


def shrink(x: Sequence[float], y: Sequence[float] | np.ndarray, *, max_points: int = MAX_POINTS) -> dict[str, list[Any]]:
    """Means over equal runs of points, with their least and greatest where a run holds several.

    Returns:
        {"x", "y"} and, for a series that was shortened, {"low", "high"}. Values that aren't finite are left out.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    finite = np.isfinite(ys)
    xs, ys = xs[finite], ys[finite]
    if len(xs) <= max_points:
        return {"x": _plain(xs), "y": _plain(ys)}
    starts = np.linspace(0, len(xs), max_points, endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(xs)))
    mean = {"x": np.add.reduceat(xs, starts) / sizes, "y": np.add.reduceat(ys, starts) / sizes}
    band = {"low": np.minimum.reduceat(ys, starts), "high": np.maximum.reduceat(ys, starts)}
    return {key: _plain(value) for key, value in (mean | band).items()}


def smooth(y: Sequence[float], *, width: int) -> NDArray[np.float64]:
    """Centred mean over `width` points, narrower at the ends so that it never lags or leads."""
    values = np.asarray(y, dtype=np.float64)
    half = min(max(width, 1), len(values)) // 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    reach = np.minimum(half, np.minimum(index, len(values) - 1 - index))
    return (total[index + reach + 1] - total[index - reach]) / (2 * reach + 1)


def steps_only(x: Sequence[float], y: Sequence[float]) -> dict[str, list[Any]]:
    """A series that is constant for long stretches: its first, last and changing points."""
    keep = [i for i in range(len(y)) if i in (0, len(y) - 1) or y[i] != y[i - 1] or y[i] != y[i + 1]]
    return shrink([x[i] for i in keep], [y[i] for i in keep])


def _plain(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.5g}") if abs(value) < 1e5 else round(float(value)) for value in values]
