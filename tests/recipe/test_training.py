"""The training program for real: layouts agree, a SIGKILL changes nothing, another layout goes on, strangers are refused."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from recipe.prepare import load_resolved, relayout
from recipe.resolve import resolve
from recipe.rundir import RunDir, read_jsonl
from tests.recipe.runs import finish, prepared, start, trace


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> RunDir:
    run = prepared(home, "undisturbed", processes=2)
    finish(run, processes=2)
    return run


def test_a_run_goes_through_its_stages_and_learns(undisturbed: RunDir) -> None:
    resolved = load_resolved(undisturbed)
    steps = trace(undisturbed)
    assert [step for step, *_ in steps] == list(range(resolved.num_steps))
    assert steps[-1][-1] == resolved.total_tokens
    assert steps[-1][1] < steps[0][1] - 0.3
    assert all(undisturbed.heldout(stage.name, stage.end_tokens).is_file() for stage in resolved.stages)


def test_sigkill_and_resume_change_nothing(home: Path, undisturbed: RunDir) -> None:
    run = prepared(home, "killed", processes=2)
    process = start(run, processes=2)
    deadline = time.monotonic() + 300
    while len(read_jsonl(run.metrics)) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(["pkill", "-KILL", "-f", str(run.root)], check=False)  # ranks have process groups of their own
    assert len(trace(run)) < load_resolved(run).num_steps
    finish(run, processes=2, attempt=2)
    assert trace(run) == trace(undisturbed)


def test_another_layout_agrees_and_goes_on(home: Path, undisturbed: RunDir) -> None:
    other = prepared(home, "tensor", processes=2, overrides=["parallel.tp=2", "parallel.sp=true"])
    finish(other, processes=2)
    for ours, theirs in zip(trace(other), trace(undisturbed), strict=True):
        assert ours[1] == pytest.approx(theirs[1], rel=1e-5)
        assert ours[2] == pytest.approx(theirs[2], rel=1e-4)
    resolved = load_resolved(other)
    for folder in other.checkpoints.glob("decay-*"):
        shutil.rmtree(folder)
    alone = resolved.config.model_copy(update={"parallel": load_resolved(undisturbed).config.parallel})
    moved = resolve(alone, world_size=1).model_copy(
        update={"data": resolved.data, "tokenizer_dir": resolved.tokenizer_dir, "tokenizer_sha256": resolved.tokenizer_sha256}
    )
    from recipe.prepare import write_run

    write_run(other, moved)
    finish(other, processes=1, attempt=2)
    for ours, theirs in zip(trace(other), trace(undisturbed), strict=True):
        assert ours[1] == pytest.approx(theirs[1], rel=1e-5)


def test_a_checkpoint_of_another_recipe_is_refused(home: Path, undisturbed: RunDir) -> None:
    stranger = prepared(home, "stranger", processes=1, overrides=["mup.scale_emb=10"])
    for folder in undisturbed.checkpoints.glob("stable-*"):
        shutil.copytree(folder, stranger.checkpoints / folder.name)
    code = start(stranger, processes=1).wait(timeout=200)
    log = (stranger.attempt(1) / "log").read_text()
    assert code != 0
    assert "the checkpoint is of another recipe" in log
    assert '"scale_emb": 12' in log
    assert '"scale_emb": 10' in log


def test_fewer_processes_keep_the_recipe(home: Path, undisturbed: RunDir) -> None:
    copy = RunDir(home / "runs" / "relaid")
    shutil.copytree(undisturbed.root, copy.root)
    after = relayout(copy, world_size=1)
    assert (after.layout.dp, after.identity()) == (1, load_resolved(undisturbed).identity())
