"""Shortened series and rings keep what they stand for."""

import numpy as np
import pytest

from recipe.report.rings import ring
from recipe.report.series import MAX_POINTS, shrink, smooth, steps_only


def test_short_series_are_left_as_they_are() -> None:
    assert shrink([1, 2, 3], [5.0, 4.0, float("nan")]) == {"x": [1.0, 2.0], "y": [5.0, 4.0]}


def test_long_series_keep_mean_and_extremes() -> None:
    x = np.arange(100_000)
    y = np.sin(x / 5000)
    y[54_321] = 9.0
    short = shrink(x, y)
    assert len(short["x"]) == MAX_POINTS
    assert max(short["high"]) == 9.0
    assert np.abs(np.array(short["y"]) - np.sin(np.array(short["x"]) / 5000)).max() < 0.1


def test_smoothing_keeps_lines_and_constants() -> None:
    line = np.arange(50.0)
    assert smooth(line, width=9) == pytest.approx(line)
    assert smooth([3.0], width=99) == pytest.approx([3.0])


def test_steps_keep_both_sides_of_a_jump() -> None:
    kept = steps_only(range(10), [4] * 5 + [8] * 5)
    assert kept == {"x": [0, 4, 5, 9], "y": [4, 4, 8, 8]}


def test_rings_close_and_are_sorted() -> None:
    slices = ring({"a": 10, "b": 64, "c": 26}, {"a": 0, "b": 1, "c": 2})
    assert [part.name for part in slices] == ["b", "c", "a"]
    assert sum(part.percent for part in slices) == pytest.approx(100)
    assert "nan" not in "".join(part.path for part in ring({"only": 1}, {"only": 0}))
