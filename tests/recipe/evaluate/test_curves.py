"""Calibration and power law: known answers."""

import numpy as np
import pytest

from recipe.evaluate.calibration import calibration
from recipe.evaluate.powerlaw import FitError, fit, loss_by_index

REPORT = {"a": -0.575, "b": 1.772, "c": 32.840}  # Xmodel-2, Figure 5


def test_the_reports_constants_are_recovered() -> None:
    t = np.arange(1, 501)
    found = fit(t, REPORT["b"] + (t / REPORT["c"]) ** REPORT["a"])
    for name, value in REPORT.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-5)


def test_intervals_cover_the_truth_under_noise() -> None:
    """95 % intervals over 200 noisy curves cover each constant nearly as often as they promise."""
    rng = np.random.default_rng(0)
    t = np.arange(1, 501)
    truth = REPORT["b"] + (t / REPORT["c"]) ** REPORT["a"]
    covered = dict.fromkeys(REPORT, 0)
    for _ in range(200):
        found = fit(t, truth + rng.normal(0, 0.05, len(t)))
        for name, value in REPORT.items():
            low, high = getattr(found, f"{name}_interval")
            covered[name] += low <= value <= high
    assert min(covered.values()) >= 180


def test_loss_by_index_averages_over_windows() -> None:
    mean, error = loss_by_index(np.array([[1.0, 2.0], [3.0, 2.0]]))
    assert mean.tolist() == [2, 2]
    assert error.tolist() == [1, 0]


def test_too_few_points_are_refused() -> None:
    with pytest.raises(FitError, match="at least 5"):
        fit(np.arange(1, 4), np.ones(3))


def test_constants_that_the_points_leave_open_are_not_made_up() -> None:
    with pytest.raises(FitError, match="leave a, b and c open"):
        fit(np.arange(1, 129), np.full(128, 5.0))


def test_a_calibrated_model_has_no_error_and_a_boastful_one_has_its_boast() -> None:
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(4), size=60_000)
    answers = (rng.random((len(shares), 1)) > shares.cumsum(axis=1)).sum(axis=1)
    assert calibration(np.log(shares), answers).ece < 0.01
    sure = np.log(np.tile([0.97, 0.01, 0.01, 0.01], (1000, 1)))
    found = calibration(sure, np.arange(1000) % 4)
    assert found.accuracy == 0.25
    assert found.ece == pytest.approx(0.72, abs=1e-9)
    assert [(found.bins[0].low, found.bins[0].count)] == [(0.9, 1000)]


def test_likelihoods_need_no_common_scale() -> None:
    scores = np.array([[-1000.0, -1001.0], [-3.0, -2.0]])
    assert calibration(scores, np.array([0, 0])).accuracy == 0.5
