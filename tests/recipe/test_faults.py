"""Faults in training, put into the real program: what is skipped, what is taken back, what stops the run and what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from recipe.config import FaultsConfig
from recipe.engine import StepResult
from recipe.errors import ConfigError, TrainingFault
from recipe.exits import REQUEUE
from recipe.faults import Faults
from recipe.load import load_recipe
from recipe.resolve import resolve
from recipe.rundir import RunDir, read_jsonl
from tests.recipe.runs import prepared, start, trace

LONG = [
    "stages=[{name: stable, tokens: 12800, mixture: {text: 100}}]", "checkpoint.every_tokens=2560",
    "evaluate.heldout_tokens=64",
]


def outcome(run: RunDir, faults: dict, *, processes: int) -> tuple[int, str]:
    code = start(run, processes=processes, program="tests.recipe.faulty_train", faults=faults).wait(timeout=400)
    return code, (run.attempt(1) / "log").read_text()


def events(run: RunDir, kind: str) -> list[dict]:
    return [event for event in read_jsonl(run.events) if event["event"] == kind]


def good(loss: float) -> StepResult:
    return StepResult(loss, 1.0, True, False, {})


BAD = StepResult(float("nan"), float("nan"), False, False, {}, ("rank 3: decoder.final_layernorm.weight",))


def test_a_spike_is_judged_by_median_and_deviation() -> None:
    faults = Faults(FaultsConfig(spike_z=6, on_spike="stop"))
    for step in range(40):
        assert faults.judge(good(5 + 0.01 * (step % 5)), step=step) == []
    assert faults.judge(good(5.05), step=40) == []
    with pytest.raises(TrainingFault, match=r"step 41: loss 9\.0000 is .* robust deviations"):
        faults.judge(good(9.0), step=41)


def test_one_outlier_does_not_hide_the_next() -> None:
    faults = Faults(FaultsConfig(spike_z=6))
    for step in range(40):
        faults.judge(good(5 + 0.01 * (step % 5)), step=step)
    assert [event["event"] for loss in (50.0, 9.0) for event in faults.judge(good(loss), step=41)] == ["spike", "spike"]


def test_rollbacks_have_a_limit() -> None:
    faults = Faults(FaultsConfig(nonfinite_limit=0, on_nonfinite="rollback", max_rollbacks=2))
    for step in range(2):
        assert [event["event"] for event in faults.judge(BAD, step=step)] == ["skip", "rollback"]
    with pytest.raises(TrainingFault, match=r"rank 3: decoder\.final_layernorm\.weight; 2 rollbacks before it"):
        faults.judge(BAD, step=2)


def test_zero_3_keeps_no_replicas_to_compare() -> None:
    with pytest.raises(ConfigError, match="digest_every_steps compares replicas"):
        resolve(load_recipe("demo", ["parallel.zero=3", "faults.digest_every_steps=10"]), world_size=2)


def test_a_stalled_rank_is_named_with_its_stack_and_leaves_to_be_requeued() -> None:
    program = (
        "import time\nfrom recipe.watchdog import Watchdog\n"
        "def waiting_for_the_others():\n    time.sleep(60)\n"
        "watchdog = Watchdog(rank=3, timeout_s=1.0)\nwatchdog.beat('step 7')\nwaiting_for_the_others()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == REQUEUE
    assert "rank 3: no progress for 1 s since step 7" in done.stderr
    assert "in waiting_for_the_others" in done.stderr


@pytest.mark.slow
def test_of_ranks_that_wait_for_each_other_the_log_says_who_waits_for_what(home: Path) -> None:
    run = prepared(home, "stall", processes=2, overrides=["faults.stall_timeout=15"])
    _, log = outcome(run, {"stall_step": 3}, processes=2)
    assert re.search(rf"rank *: 1 .*\n *exitcode *: {REQUEUE} ", log)  # as torchrun tells it
    assert re.search(r"rank 1: no progress for \d+ s since step 2; stacks follow", log)
    assert "in stalled_draw" in log
    assert not re.search(r"rank 0: no progress for \d+ s since step 2;", log)  # it has its batch and waits with it


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_skipped_on_all_ranks(home: Path) -> None:
    run = prepared(home, "nan", processes=2)
    code, log = outcome(run, {"nan_calls": [5]}, processes=2)
    assert code == 0, log[-3000:]
    assert [record["step"] for record in read_jsonl(run.metrics) if record["skipped"]] == [4]
    (skip,) = events(run, "skip")
    assert skip["where"] == [f"rank {rank}: decoder.layers.1.mlp.linear_fc2.weight" for rank in skip_ranks(skip)]


def skip_ranks(skip: dict) -> list[int]:
    """Gradients of the two replicas are averaged before ZeRO, or looked at before: rank 0's is bad in either case."""
    ranks = [int(line.split()[1].rstrip(":")) for line in skip["where"]]
    assert 0 in ranks
    return ranks


@pytest.mark.slow
def test_beyond_the_limit_the_run_stops_with_parameter_and_rank(home: Path) -> None:
    run = prepared(home, "nan-stop", processes=1, overrides=["faults.nonfinite_limit=1"])
    code, log = outcome(run, {"nan_calls": [5, 6]}, processes=1)
    assert code == 1
    assert "step 5: 2 steps in a row were not finite" in log
    assert "rank 0: decoder.layers.1.mlp.linear_fc2.weight" in log


def test_a_spike_takes_the_run_back_and_leaves_its_samples_out(home: Path) -> None:
    run = prepared(home, "spike", processes=1, overrides=[*LONG, "faults.spike_z=8", "faults.on_spike=rollback"])
    code, log = outcome(run, {"noise_calls": [45]}, processes=1)
    assert code == 0, log[-3000:]
    (rollback,) = events(run, "rollback")
    (back,) = events(run, "rolled_back")
    assert (rollback["step"], back["step"]) == (44, 40)
    steps = trace(run)
    assert [step for step, *_ in steps] == list(range(50))
    drawn = [record["drawn"]["text"] for record in read_jsonl(run.metrics)]
    assert drawn[39:41] == [40 * 8, 46 * 8]  # five batches of eight between 40 and the spike were left out


def test_a_flipped_bit_is_found_and_named(home: Path) -> None:
    run = prepared(home, "flip", processes=2, overrides=["faults.digest_every_steps=2"])
    code, log = outcome(run, {"flip_call": 3}, processes=2)
    assert code == 1
    assert "weights differ between replicas" in log
    assert "rank 1: decoder.layers.1.mlp.linear_fc2.weight (1 of 2048 values)" in log
    assert "rank 0: decoder" not in log


@pytest.mark.slow
def test_of_replicas_that_agree_nothing_is_said(home: Path) -> None:
    run = prepared(home, "flip-even", processes=2, overrides=["faults.digest_every_steps=1", "parallel.zero=0"])
    code, log = outcome(run, {}, processes=2)
    assert code == 0, log[-3000:]
