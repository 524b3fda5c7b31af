"""The scaling law: constants come back, intervals cover, a study asks for one stable run a size and branches of it."""

import math
import random

import numpy as np
import pytest

from launch.cli import main
from launch.search.errors import SearchError
from launch.search.folder import Study
from launch.search.scaling.fit import fit
from launch.search.scaling.report import write_report
from launch.search.scaling.study import ScalingSpec, ScalingStudy
from launch.search.trial import Trial
from recipe.load import load_recipe
from recipe.size import model_size
from tests.launch.search.fakes import Formula

FLOOR, ALPHA, BETA, SD = 2.0, 0.34, 0.28, 0.003


def truth(params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return FLOOR + 20 * params**-ALPHA + 30 * tokens**-BETA


def runs(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    params, tokens = (axis.ravel() for axis in np.meshgrid([1e5, 3e5, 1e6], [1e5, 2e5, 4e5, 8e5]))
    return params, tokens, truth(params, tokens) + SD * np.random.default_rng(seed).standard_normal(params.size)


def test_intervals_at_a_larger_run_cover():
    large = (np.array([4e6]), np.array([8e5]))
    covered, errors = [], []
    for seed in range(12):
        law = fit(*runs(seed), noise=SD)
        low, high = law.interval(4e6, 8e5)
        measured = float(truth(*large)[0]) + SD * float(np.random.default_rng(1000 + seed).standard_normal())
        covered.append(low <= measured <= high)
        errors.append(float(law.predict(*large)[0] - truth(*large)[0]))
    assert np.mean(covered) >= 0.85
    assert np.abs(np.mean(errors)) < 0.05


def test_too_few_runs_are_refused():
    params, tokens, losses = runs(0)
    with pytest.raises(SearchError, match="4 runs of 3 sizes can't fit 5 constants"):
        fit(params[:4], tokens[:4], losses[:4], noise=SD)


def formula(trial: Trial) -> dict[str, float]:
    model = load_recipe("demo", [one for one in trial.overrides if one.startswith("model.")]).model
    at = int(trial.start.rpartition("-")[2]) if trial.start else 1
    value = float(truth(np.array(model_size(model).num_non_embedding), np.array(1.3125 * at)))
    return {"docs": value + random.Random(f"{trial.overrides}").gauss(0, SD)}


def test_a_study_is_one_stable_run_a_size_and_its_branches(tmp_path):
    run = Formula(formula)
    spec = ScalingSpec(tokens=(409600, 819200, 1638400))
    found = ScalingStudy(spec, load_recipe("demo"), run).conduct()
    trunks = [trial for trial in run.asked if trial.start is None]
    assert [trial.save_tokens for trial in trunks] == [spec.tokens] * 3 + [spec.tokens[-1:]] * 2  # sizes, a seed, held out
    assert len(found.fitted) == 9
    assert all(trial.start in [trunk.checkpoint("stable", at) for trunk in trunks for at in trunk.save_tokens]
               for trial in run.asked if trial.start)  # fmt: skip
    said = write_report(Study(tmp_path), found, command=["windtunnel", "scaling", "demo"])
    assert "inside the 90 % interval" in said
    assert (tmp_path / "scaling.png").is_file()
    assert math.isfinite(found.noise)


def test_branch_points_are_whole_batches(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["scaling", "demo", "--tokens", "400K,800K"])
    assert left.value.code == 2
    assert "--tokens 400000: not a multiple of batch.global_tokens=16384" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
