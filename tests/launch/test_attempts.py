"""Attempt folders: numbers, records, fencing, progress."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from launch.supervise.attempts import (
    Attempt,
    attempts_of,
    checkpoint_tokens,
    close_attempt,
    is_fenced,
    last_step,
    open_attempt,
    running_here,
)
from recipe.rundir import RunDir, write_json, write_text


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def begin(run: RunDir, job: str = "7") -> Attempt:
    return open_attempt(run, job=job, world_size=2, nodes=["n1"])


def test_numbers_go_up_and_the_lost_are_closed(run: RunDir) -> None:
    first = begin(run)
    write_text(run.metrics, '{"step": 3, "tokens": 192}\n{"step": 4, "tok')
    second = begin(run, job="8")
    assert [one.folder.name for one in attempts_of(run)] == ["001-7", "002-8"]
    assert (first.number, first.job, second.number) == (1, "7", 2)
    end = first.ended()
    assert (end.reason, end.exit_code, end.step, end.tokens) == ("lost", None, 4, 192)
    assert is_fenced(run, first)
    assert not is_fenced(run, second)


def test_what_rank_zero_wrote_stands(run: RunDir) -> None:
    attempt = begin(run)
    write_json(attempt.exit_file, {"reason": "finished", "exit_code": 0, "step": 9, "tokens": 576, "time": 1.0, "more": True})
    assert close_attempt(run, attempt, reason="killed by SIGTERM", exit_code=143).exit_code == 0


def test_only_a_rank_can_say_finished(run: RunDir) -> None:
    attempt = begin(run)
    end = close_attempt(run, attempt, reason="finished", exit_code=0)
    assert end.exit_code is None
    assert end.reason == "lost: no rank said how it ended"


def test_progress_is_the_newest_checkpoint(run: RunDir) -> None:
    assert checkpoint_tokens(run) == 0
    assert last_step(run) == (0, 0)
    for name in ("stable-000000000000640", "stable-000000000000320", ".damaged-stable-000000000009999"):
        write_text(run.checkpoints / name / "manifest.json", "{}")
    (run.checkpoints / "stable-000000000001280").mkdir()  # begun, never finished
    assert checkpoint_tokens(run) == 640
    assert begin(run).started().tokens == 640


def test_running_here_believes_only_the_living(run: RunDir) -> None:
    assert running_here(run) is None
    attempt = begin(run)
    start = attempt.started()
    assert running_here(run).pid == os.getpid()
    write_json(attempt.start_file, vars(replace(start, pid=2**22 + 1)))
    assert running_here(run) is None
    write_json(attempt.start_file, vars(replace(start, time=1.0)))  # the id now belongs to a younger process
    assert running_here(run) is None
    write_json(attempt.start_file, vars(replace(start, host="elsewhere")))
    assert running_here(run) is None
