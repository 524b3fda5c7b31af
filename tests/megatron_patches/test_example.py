"""The example on Megatron-Core alone, in real processes: it trains with clipping, and the coordinate check passes on it."""

import os
import re
import subprocess
import sys
from math import isfinite

import pytest

from megatron_patches.mup import coordcheck
from tests.megatron_patches.example_worker import check
from tests.megatron_patches.harness import ROOT, torchrun


def test_example_trains_with_clipping_and_the_half_life_decay() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "megatron_patches/example_megatron_only.py"], cwd=ROOT, capture_output=True, text=True, timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [[float(n) for n in re.findall(r"[\d.]+", line)] for line in done.stdout.splitlines() if line.startswith("step ")]
    losses, norms = [row[1] for row in rows], [row[2] for row in rows]
    assert len(rows) == 20
    assert max(norms) > 0.5  # so that clipping was at work
    assert losses[-1] < losses[0] - 1.0
    # matrices have half of the base lr at twice the base width; the last 8 steps halve both every 4
    assert rows[11][3:] == [0.005, 0.01]
    assert rows[15][3:] == [0.0025, 0.005]
    assert rows[19][3:] == [0.00125, 0.0025]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "passes"), [("minicpm", True), ("standard", False)])
def test_coordinate_check_on_the_example(kind: str, passes: bool, processes: int) -> None:
    """One process is a short form, here: six steps, two widths."""
    if processes == 1:
        found = check(kind, coordcheck.Setting(steps=6, kv_share=2), (64, 256))
    else:
        found = torchrun("example_worker.py", kind, processes=processes)
    slopes = {f"{one['module']} {one['quantity']}": one["slope"] for one in found["verdicts"]}
    assert all(map(isfinite, slopes.values())), slopes
    assert found["passed"] is passes, slopes
    assert found["audit"] == []
