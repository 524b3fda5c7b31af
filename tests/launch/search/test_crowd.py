"""A study's folder under many writers, SIGKILL of owner and workers, and a second owner."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.search.errors import SearchError
from launch.search.folder import Study
from launch.search.owner import Owner
from launch.search.sweep.study import Sweep
from launch.search.trial import Result, Trial
from launch.search.worker import run_safely
from recipe.load import load_recipe
from tests.launch.search.crowd import PATIENCE_S, SPEC, losses
from tests.launch.search.fakes import Formula

ROOT = Path(__file__).parents[3]
NUM_WORKERS = 4


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "tests.launch.search.crowd", *arguments], cwd=ROOT)


@pytest.fixture
def study(tmp_path) -> Study:
    (tmp_path / "study").mkdir()
    return Study(tmp_path / "study")


@pytest.fixture
def workers(study) -> Iterator[dict[str, subprocess.Popen]]:
    running = {f"w{index}": start("worker", str(study.root), f"w{index}") for index in range(NUM_WORKERS)}
    yield running
    for process in running.values():
        process.kill()
        process.wait()


def wait_for_results(study: Study, count: int, *, timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while len(list(study.work.glob("results/*.json"))) < count:
        assert time.monotonic() < until, f"{count} results"
        time.sleep(0.02)


def began(study: Study) -> list[int]:
    return sorted(int(line) for path in study.root.glob("began-*.txt") for line in path.read_text().split())


def test_killed_again_and_again_a_study_repeats_and_loses_nothing(study, workers):
    for done in (4, 10, 17):
        owner = start("owner", str(study.root))
        wait_for_results(study, done)
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    last = start("owner", str(study.root))
    assert last.wait(timeout=60) == 0
    undisturbed = Formula(losses)
    Sweep(SPEC, load_recipe("demo"), undisturbed).conduct()
    results = study.results()
    assert [one.trial for one in results.values()] == undisturbed.asked  # nothing lost, nothing else asked
    assert began(study) == list(range(len(undisturbed.asked)))  # nothing repeated
    assert len({path.name for path in study.root.glob("began-*.txt")}) == NUM_WORKERS
    assert all(process.wait(timeout=10) == 0 for process in workers.values())
    lines = study.kept_results.read_text().splitlines()
    assert [Result.model_validate_json(line) for line in lines] == list(results.values())


def test_a_killed_workers_trial_is_done_by_another(study, workers):
    owner = start("owner", str(study.root))
    wait_for_results(study, 4)
    workers["w0"].kill()
    assert owner.wait(timeout=60) == 0
    numbers = began(study)
    assert sorted(set(numbers)) == list(study.results())
    assert len(numbers) - len(set(numbers)) <= 1  # the one it died over


def test_a_second_owner_is_refused(study):
    with Owner(study, patience_s=PATIENCE_S):
        with pytest.raises(SearchError, match=f"process {os.getpid()} on .* owns this study"), Owner(study):
            pass


def test_another_study_in_the_same_folder_is_refused_with_the_differences(study):
    study.begin({"trials": 64, "method": "tpe"})
    study.begin({"trials": 64, "method": "tpe"})  # going on
    with pytest.raises(SearchError, match="trials: 64 → 65"):
        study.begin({"trials": 65, "method": "tpe"})


def test_a_result_of_another_trial_is_never_taken_for_ours(study):
    study.work.mkdir()
    (study.work / "results").mkdir()
    other = Result(trial=Trial(number=0, label="other"), status="done", objective=1.0)
    study.result(0).write_text(other.model_dump_json())
    with Owner(study) as owner, pytest.raises(SearchError, match="trial 0 was another one"):
        owner.run([Trial(number=0, label="ours")])


def test_a_trial_that_raises_is_a_failed_result_not_the_workers_end(capsys):
    def fails(trial: Trial) -> Result:
        raise ValueError("batch does not fit")

    result = run_safely(fails, Trial(number=3, label="x"))
    assert (result.status, result.detail) == ("failed", "ValueError: batch does not fit")
