"""The study's own arithmetic: the walk finds the minimum, the fit its place, an interrupted study goes on; a point is real."""

import json
from dataclasses import asdict
from math import log
from pathlib import Path

import pytest

from tests.transfer.curves import BASE_LR, STEP, Curve, curves
from tests.transfer.fit import gaps_near_best, minimum, moved, moved_at_least, regret
from tests.transfer.study import Points, finished, run, sweep
from tests.transfer.summary import summarise
from tests.transfer.train import Job, train_one


def bowl(at: float, *, noise: float = 0.0, level: float = 2.0):
    """Loss with its minimum `at` grid steps from BASE_LR; a seed shifts it as a whole."""

    def loss(job: Job) -> float:
        x = log(job.lr / BASE_LR) / log(STEP)
        wobble = noise * ((round(x) * 7 + job.seed * 3) % 5 - 2)
        return level + 0.02 * (x - at) ** 2 + 0.1 * job.seed + wobble

    return loss


@pytest.mark.parametrize("at", [-7.0, -0.4, 0.0, 5.3])
def test_walk_and_fit_find_the_minimum(at: float) -> None:
    found = sweep(Curve("width", "x", 64, Job(), seeds=3), bowl(at))
    steps = sorted(step for step, seed in found if seed == 1)
    best = min(steps, key=lambda step: found[step, 1])
    assert steps[0] <= best - 2
    assert steps[-1] >= best + 2
    assert {step for step, seed in found if seed == 3} == {best - 1, best, best + 1}
    assert minimum(found).lr == pytest.approx(BASE_LR * STEP**at, rel=1e-6)
    assert minimum(found).loss == pytest.approx(2.15, abs=1e-6)  # of the first two seeds
    assert regret(found, BASE_LR * STEP ** (best + 1)) == pytest.approx(0.02 * ((best + 1 - at) ** 2 - (best - at) ** 2))


def test_interval_holds_the_truth_and_grows_with_noise() -> None:
    def width(noise: float) -> float:
        one = minimum(sweep(Curve("width", "x", 64, Job(), seeds=3), bowl(0.3, noise=noise)))
        assert one.low <= BASE_LR * STEP**0.3 <= one.high
        return one.high / one.low

    assert 1.0 < width(0.002) < width(0.01)


def test_no_minimum_is_said() -> None:
    flat = minimum({(step, 1): 2.0 - 0.01 * step for step in range(5)})
    assert (flat.low, flat.high) == (0.0, float("inf"))


def test_what_moves() -> None:
    groups = [
        (Curve("width", "x", width, Job(width=width)), sweep(Curve("width", "x", width, Job()), bowl(at, level=level)))
        for width, at, level in ((64, 0.0, 2.0), (128, -2.0, 1.9), (256, -4.0, 1.8))
    ]
    minima = [minimum(found) for _, found in groups]
    assert moved(minima) == pytest.approx(4.0)
    assert 3.9 < moved_at_least(minima) <= 4.0
    told = summarise(groups)["parts"]["width"]["x"]
    assert told["exponent"] == pytest.approx(-1.0)
    still = [(curve, sweep(curve, bowl(0.0, level=2.0 - curve.size / 1000))) for curve, _ in groups]
    gaps = gaps_near_best(still, base=minimum(still[0][1]))
    assert [gap.step for gap in gaps] == [-1, -1, 0, 0, 1, 1]
    assert [gap.mean for gap in gaps] == pytest.approx([-0.064, -0.128] * 3)


def test_an_interrupted_study_goes_on(tmp_path: Path) -> None:
    path, one = tmp_path / "points.jsonl", next(curves())
    done = sweep(one, bowl(float(one.start)))
    points = Points(path)
    for (step, seed), loss in done.items():
        points.add(one.at(step, seed), {"loss": loss, "seconds": 0.0})
    again = Points(path)
    assert [curve for curve, _ in finished(again)] == [one]
    lines = path.read_text().count("\n")
    assert run(again, parts=["width"], for_s=-1.0) is False  # no time: nothing is trained, nothing trained twice
    assert path.read_text().count("\n") == lines
    assert json.loads(path.read_text().splitlines()[0]).items() >= asdict(one.at(one.start - 1, 1)).items()


def test_a_point_learns_and_is_reproducible(cpu) -> None:
    job = Job(width=32, head_dim=16, base_width=32, duration_mult=0.25)
    first = train_one(job)
    assert first["loss"] < log(256) - 1
    assert train_one(job)["loss"] == first["loss"]
