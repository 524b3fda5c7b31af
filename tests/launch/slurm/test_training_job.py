"""Training jobs on a real cluster with a program of a second in the trainer's place: ends, diagnoses, what a person sees.

What happens to real training is in `test_real_training.py`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from launch.chain import cancel_run, resume_chain
from launch.supervise.attempts import attempts_of, checkpoint_tokens
from recipe.rundir import read_json
from tests.launch.slurm.conftest import ROOT, Submitted, blocker, exits, killed, until, wait_for_second_attempt, windtunnel
from tests.slurm_cluster.cluster import Cluster

pytestmark = pytest.mark.slurm
Submit = Callable[..., Submitted]
SLOW = {"TINY_STEP_S": "1.0"}  # a step, in seconds
RARE = {"TINY_EVERY": "1000"}  # no checkpoint but those asked for


@pytest.fixture(scope="module")
def expected() -> list[tuple[int, float]]:
    """What the small program's loss must be: 0.99^step in fp32, as torch computes it."""
    import torch

    value, trace = 1.0, []
    for step in range(1, 31):
        value = float(torch.tensor([value]) * 2) / 2 * 0.99
        trace.append((step - 1, value))
    return trace


@pytest.mark.parametrize("tasks", ["per_process", "per_node"])
def test_runs_to_the_end_on_two_nodes(submit: Submit, expected: list, tasks: str) -> None:
    one = submit(num_nodes=2, tasks=tasks)
    status = one.wait_for_state("finished")
    assert one.losses() == expected
    assert (status.step, status.num_steps) == (30, 30)
    assert exits(one) == [0]
    logs = [path.name for path in attempts_of(one.run)[0].rank_logs()]
    assert logs == [f"rank_{rank:05d}.log" for rank in range(4)]


@pytest.mark.slow
def test_time_limit_requeues(submit: Submit, expected: list) -> None:
    """SLURM's signal comes 30 to 90 s after the start of a job of two minutes; at this pace the steps need 100."""
    one = submit(time_limit=120, leave_before=30, tiny={"TINY_STEP_S": "3.3"} | RARE)
    one.wait_for_state("finished")
    assert len(exits(one)) > 1
    assert exits(one) == [75] * (len(exits(one)) - 1) + [0]
    assert one.losses() == expected
    assert len({attempt.job for attempt in attempts_of(one.run)}) == 1  # the job keeps its id


def test_cancel_while_pending_and_while_running(submit: Submit, expected: list, cluster: Cluster) -> None:
    in_the_way = blocker(cluster, "-N4")
    one = submit(exclusive=True, tiny=SLOW | RARE)
    one.wait_for_state("queued")
    cancel_run(one.run)
    assert one.status().state == "cancelled"
    cluster.run(["scancel", in_the_way])
    resume_chain(one.run)
    one.wait_for_step(2)
    cancel_run(one.run)
    until(lambda: exits(one) == [75], "left with a checkpoint", one, 60)
    assert one.status().state == "cancelled"
    resume_chain(one.run)
    one.wait_for_state("finished")
    assert one.losses() == expected


@pytest.mark.slow
def test_node_of_the_batch_script_lost(submit: Submit, expected: list, cluster: Cluster) -> None:
    one = submit(num_nodes=2, tiny=SLOW | {"TINY_EVERY": "2"})
    one.wait_for_step(5)
    nodes = attempts_of(one.run)[0].started().nodes
    with killed(cluster, nodes[0]):
        wait_for_second_attempt(one)
        one.wait_for_state("finished")
    assert one.losses() == expected
    assert exits(one) == [None, 0]


def test_fewer_nodes_where_the_recipe_allows(submit: Submit, cluster: Cluster) -> None:
    in_the_way = blocker(cluster, "-N3")
    one = submit(num_nodes=4, min_nodes=1)
    status = one.wait_for_state("finished")
    cluster.run(["scancel", in_the_way])
    assert attempts_of(one.run)[0].started().world_size == 2
    assert status.step == 30


def test_three_attempts_without_progress_stop(submit: Submit) -> None:
    one = submit(tiny={"TINY_FAIL_AT": "7"})
    status = one.wait_for_state("failed", timeout_s=240)
    assert "3 attempts without getting past the checkpoint at 320 tokens" in status.detail
    assert exits(one) == [1, 1, 1, 1]
    assert checkpoint_tokens(one.run) == 320
    log = next(one.run.jobs.glob("train-*.log")).read_text()
    assert "a fault made on purpose" in log


def test_bad_input_stops_at_once(submit: Submit) -> None:
    one = submit(tiny={"TINY_EXIT": "2"})
    assert "bad input" in one.wait_for_state("failed").detail
    assert exits(one) == [2], one.explain()


def test_unfit_nodes_are_named_and_excluded(submit: Submit) -> None:
    """No node has so much disk: each attempt goes to another one, and the third ends in a diagnosis."""
    one = submit(health={"min_disk_free": "1PB", "timeout": "120s"})
    status = one.wait_for_state("failed")
    nodes = [attempt.started().nodes[0] for attempt in attempts_of(one.run)]
    assert len(nodes) == len(set(nodes)) == 3
    assert "3 attempts without getting past" in status.detail
    assert f"health check: {nodes[-1]}: " in status.detail
    assert "of disk free, under" in status.detail


def test_a_bad_node_is_named_and_left_out(submit: Submit, cluster: Cluster) -> None:
    """node1 shows one device where two are asked for: one job goes on beside it, the other is put elsewhere."""
    cluster.layout.bad_marker("node1").touch()
    try:
        wide = submit("wide", num_nodes=2, min_nodes=1)
        wide.wait_for_state("finished")
        first = attempts_of(wide.run)[0]
        assert first.started().nodes == ["node1", "node2"]
        assert read_json(first.health_file)["bad"] == {"node1": "1 devices of 2"}
        assert exits(wide) == [0]
        narrow = submit("narrow")
        narrow.wait_for_state("finished")
        assert attempts_of(narrow.run)[0].ended().reason == "health check: node1: 1 devices of 2"
        assert "node1" not in attempts_of(narrow.run)[1].started().nodes
    finally:
        cluster.layout.bad_marker("node1").unlink()


def test_what_a_person_sees_while_it_waits_and_runs(submit: Submit, cluster: Cluster) -> None:
    in_the_way = blocker(cluster, "-N4")
    one = submit(exclusive=True, tiny=SLOW)
    until(lambda: "position 1" in windtunnel("status", str(one.run.root)).stdout, "its place in the queue", one, 30)
    nothing = windtunnel("logs", str(one.run.root))
    assert (nothing.returncode, "there are: none yet; logs of links (--link): none yet" in nothing.stderr) == (2, True)
    early = windtunnel("resume", str(one.run.root))
    assert (early.returncode, "still on its way: train" in early.stderr) == (2, True)
    cluster.run(["scancel", in_the_way])
    one.wait_for_step(2)
    command = [sys.executable, "-m", "launch.cli", "status", str(one.run.root), "--watch", "--every", "0.5"]
    env = dict(os.environ, COLUMNS="160")
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, env=env) as watching:
        time.sleep(4)
        watching.send_signal(signal.SIGINT)
        try:
            seen, _ = watching.communicate(timeout=30)
        finally:
            watching.kill()
    assert watching.returncode == 0
    assert "running: train: on node" in seen
    assert f"attempt 1 of {one.run.root}" in windtunnel("logs", str(one.run.root), "--link", "train").stdout
    assert windtunnel("cancel", str(one.run.root)).returncode == 0
    one.wait_for_state("cancelled")
    assert windtunnel("cancel", str(one.run.root)).returncode == 2
