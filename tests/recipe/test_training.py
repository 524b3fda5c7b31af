"""The training program for real: layouts agree, a SIGKILL changes nothing, another layout goes on, strangers are refused."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipe.config import ParallelConfig
from recipe.prepare import load_resolved, relayout, write_run
from recipe.resolve import resolve
from recipe.rundir import RunDir, read_json, read_jsonl
from tests.recipe.runs import finish, kill, prepared, start, trace


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
    kill(process)
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
    write_run(other, moved)
    finish(other, processes=1, attempt=2)
    for ours, theirs in zip(trace(other), trace(undisturbed), strict=True):
        assert ours[1] == pytest.approx(theirs[1], rel=1e-5)


@pytest.mark.slow
def test_twenty_sigkills_change_nothing(home: Path) -> None:
    """At random moments, every third while a checkpoint is being written; each step's record stands once, bit for bit."""
    overrides = ["stages=[{name: stable, tokens: 81920, mixture: {text: 100}}]", "checkpoint.every_tokens=512"]
    whole = prepared(home, "whole", processes=2, overrides=overrides)
    finish(whole, processes=2)
    run, chance = prepared(home, "killed-often", processes=2, overrides=overrides), random.Random(7)
    inside = 0
    for attempt in range(1, 22):
        before, process = len(read_jsonl(run.metrics)), start(run, processes=2, attempt=attempt)
        wanted = chance.randint(0, 5)  # steps until it is killed; none: while it starts or reads the checkpoint
        deadline = time.monotonic() + (120 if wanted else chance.uniform(3, 12))
        while time.monotonic() < deadline and process.poll() is None:
            saving = any(run.checkpoints.glob(".*.tmp"))
            if wanted and len(read_jsonl(run.metrics)) >= before + wanted and (saving or attempt % 3):
                inside += saving
                break
            time.sleep(0.001)
        assert process.poll() is None, "it finished before it was killed"
        kill(process)
    assert inside >= 5
    assert len(trace(run)) < len(trace(whole))
    finish(run, processes=2, attempt=22)
    assert trace(run) == trace(whole)


@pytest.mark.slow
def test_every_sample_comes_once_whatever_the_layout(home: Path) -> None:
    """Through a ramp, a stage change, and three layouts in one run: the record of every rank, put together."""
    run = prepared(home, "moving", processes=2, overrides=["checkpoint.every_tokens=512"])
    seen: list[tuple] = []
    for attempt, (parallel, processes, steps) in enumerate((
        ({}, 2, 6), ({"tp": 2, "sp": True}, 2, 11), ({"pp": 2, "zero": 2}, 2, 15), ({}, 1, None),
    ), start=1):  # fmt: skip
        now = load_resolved(run)
        config = now.config.model_copy(update={"parallel": ParallelConfig(**parallel)})
        write_run(run, now.model_copy(update={"config": config, "layout": resolve(config, world_size=processes).layout}))
        record = home / f"record-{attempt}"
        record.mkdir()
        faults = {"record": str(record), "stop_step": steps}
        process = start(run, processes=processes, attempt=attempt, program="tests.recipe.faulty_train", faults=faults)
        assert process.wait(timeout=300) == (0 if steps is None else 1), (run.attempt(attempt) / "log").read_text()[-2000:]
        rows = {tuple(row) for path in record.iterdir() for row in read_jsonl(path)}  # model-parallel ranks read alike
        seen += sorted(rows)
    resolved = load_resolved(run)
    batches = [[step] * resolved.batch_seqs_at(step) for step in range(resolved.num_steps)]
    assert [step for step, *_ in seen] == [step for batch in batches for step in batch]
    assert [draw for _, _, draw, *_ in seen] == list(range(resolved.total_tokens // 32))


def test_a_checkpoint_of_another_recipe_is_refused(home: Path, undisturbed: RunDir) -> None:
    stranger = prepared(home, "stranger", processes=1, overrides=["mup.scale_emb=10"])
    for folder in undisturbed.checkpoints.glob("stable-*"):
        shutil.copytree(folder, stranger.checkpoints / folder.name)
    code = start(stranger, processes=1).wait(timeout=200)
    log = (stranger.attempt(1) / "log").read_text()
    assert code != 0
    assert "the checkpoint is of another recipe" in log
    assert "\n  mup.scale_emb: 12.0 → 10.0\n  resume with" in log  # nothing else differs, and nothing else is said


def test_whichever_rank_leaves_for_bad_input_says_so(tmp_path: Path) -> None:
    """Its exit code alone may be lost: srun tells that of the ranks which it ends then."""
    attempt = tmp_path / "attempts" / "001-7"
    attempt.mkdir(parents=True)
    command = [sys.executable, "-m", "recipe.train", str(tmp_path), "--attempt", "1"]
    done = subprocess.run(command, env=os.environ | {"RANK": "1"}, capture_output=True, text=True, check=False)
    record = read_json(attempt / "exit.json")
    assert done.returncode == record["exit_code"] == 2
    assert record["reason"] == f"rank 1: {done.stderr.strip().splitlines()[-1]}"


def test_fewer_processes_keep_the_recipe(home: Path, undisturbed: RunDir) -> None:
    copy = RunDir(home / "runs" / "relaid")
    shutil.copytree(undisturbed.root, copy.root)
    after = relayout(copy, world_size=1)
    assert (after.layout.dp, after.identity()) == (1, load_resolved(undisturbed).identity())
