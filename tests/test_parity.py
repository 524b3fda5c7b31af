"""Every axis of parallelism against one process, and across checkpoints. The whole grid is `make parity`."""

import pytest
import yaml

from tests.parity import GRID, run

AXES = [
    {"dp": 2, "zero": 0}, {"dp": 2, "zero": 1}, {"dp": 2, "zero": 2}, {"dp": 2, "zero": 3}, {"tp": 2, "sp": True},
    {"pp": 2, "vp": 2}, {"pp": 2, "layers_per_stage": [3, 5], "tied": False}, {"cp": 2}, {"recompute": "full"},
    {"dp": 2, "zero": 2, "precision": "bf16"},
]


def test_each_axis_alone() -> None:
    lines = run(AXES)
    assert [line for line in lines if not line["ok"]] == []
    assert len(lines) == len(AXES) + 3  # and a reference for each kind of model


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_whole_grid(precision: str) -> None:
    layouts = [layout | {"precision": precision} for layout in yaml.safe_load(GRID.read_text())]
    assert len(layouts) >= 70
    assert [line for line in run(layouts) if not line["ok"]] == []
