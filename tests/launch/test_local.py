"""Training on this machine, with a small real program in the trainer's place: signals, kills, failures, exit codes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from launch.supervise.attempts import attempts_of, running_here
from recipe.rundir import RunDir, read_jsonl
from tests.launch.tiny_run import tiny_run

MODULE = "tests.launch.tiny_train"
ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import sys; from pathlib import Path; from launch.local import train_here; from recipe.rundir import RunDir\n"
    f"sys.exit(train_here(RunDir(Path(sys.argv[1])), num_processes=2, retry=sys.argv[2] == 'True', module={MODULE!r}))"
)


def start(run: RunDir, *, retry: bool = False, **env: str) -> subprocess.Popen:
    """The launcher as a process of its own, as a user's shell has it."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(run.root), str(retry)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", **env),
    )


def wait_for_step(run: RunDir, step: int) -> None:
    deadline = time.monotonic() + 60
    while not any(line["step"] >= step for line in read_jsonl(run.metrics)):
        assert time.monotonic() < deadline, f"step {step} not reached"
        time.sleep(0.05)


def losses(run: RunDir) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_jsonl(run.metrics)]


def ranks_of(run: RunDir) -> list[psutil.Process]:
    """Rank processes of a run that are alive."""
    return [
        one for one in psutil.process_iter(["cmdline"])
        if str(run.root) in (one.info["cmdline"] or []) and MODULE in one.info["cmdline"] and "-u" in one.info["cmdline"][:2]
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, float]]:
    run, _ = tiny_run(tmp_path_factory.mktemp("undisturbed"))
    child = start(run)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    trace = losses(run)
    assert [step for step, _ in trace] == list(range(30))
    return trace


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_signal_checkpoints_and_resume_goes_on(tmp_path: Path, undisturbed: list, number: signal.Signals) -> None:
    run, _ = tiny_run(tmp_path / "run")
    child = start(run, TINY_STEP_S="0.3", TINY_EVERY="1000")
    wait_for_step(run, 3)
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 75, errors
    assert "go on with: windtunnel resume" in errors
    end = attempts_of(run)[0].ended()
    assert (end.exit_code, end.reason) == (75, "told to leave")
    assert 3 <= end.step < 30
    again = start(run)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert losses(run) == undisturbed
    assert [one.folder.name for one in attempts_of(run)] == ["001-local", "002-local"]


@pytest.mark.slow
def test_sigkill_of_everything_then_resume(tmp_path: Path, undisturbed: list) -> None:
    """The launcher itself is killed: its ranks don't outlive it, and the next attempt closes the lost one."""
    run, _ = tiny_run(tmp_path / "run")
    child = start(run, TINY_STEP_S="0.2")
    wait_for_step(run, 7)
    assert running_here(run).pid == child.pid
    child.kill()
    child.communicate()
    _gone, alive = psutil.wait_procs(ranks_of(run), timeout=40)
    assert not alive
    again = start(run)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert losses(run) == undisturbed


def test_killed_rank_ends_the_attempt_and_is_named(tmp_path: Path, undisturbed: list) -> None:
    run, _ = tiny_run(tmp_path / "run")
    child = start(run, TINY_STEP_S="0.2")
    wait_for_step(run, 6)
    ranks_of(run)[0].kill()
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "killed by SIGKILL" in errors or "Connection closed by peer" in errors  # whichever rank the launcher saw end first
    assert not ranks_of(run)
    again = start(run)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert losses(run) == undisturbed


@pytest.mark.slow
def test_failure_shows_the_guilty_log_and_three_attempts_stop(tmp_path: Path) -> None:
    run, _ = tiny_run(tmp_path / "run")
    child = start(run, retry=True, TINY_FAIL_AT="7")
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 1
    assert "a fault made on purpose" in errors
    assert "3 attempts without getting past the checkpoint at 320 tokens" in errors
    assert len(attempts_of(run)) == 4  # the first one did get somewhere: from nothing to step 5


def test_bad_input_is_not_tried_again(tmp_path: Path) -> None:
    run, _ = tiny_run(tmp_path / "run")
    child = start(run, retry=True, TINY_EXIT="2")
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 2
    assert len(attempts_of(run)) == 1
    assert "windtunnel resume" not in errors


@pytest.mark.slow
def test_second_launcher_is_refused(tmp_path: Path) -> None:
    run, _ = tiny_run(tmp_path / "run")
    child = start(run, TINY_STEP_S="0.3")
    wait_for_step(run, 2)
    other = start(run)
    _, errors = other.communicate(timeout=60)
    assert f"process {child.pid} is training this run" in errors
    assert other.returncode != 0
    child.terminate()
    child.communicate(timeout=60)
    assert child.returncode == 75
