"""Real training of the smallest model under SLURM: what happens to a job must not change a bit of its loss trace."""

from collections.abc import Callable

import pytest

from launch.chain import resume_chain
from launch.supervise.attempts import attempts_of
from recipe.rundir import read_jsonl
from tests.launch.slurm.conftest import Submitted, blocker, exits, killed, until, wait_for_second_attempt
from tests.slurm_cluster.cluster import Cluster

pytestmark = pytest.mark.slurm
Submit = Callable[..., Submitted]
STEPS = 40
TWO_NODES = {"num_nodes": 2, "processes_per_node": 1, "gres": "gpu:1"}  # two ranks, as on one node: the same trace


@pytest.fixture(scope="module")
def traces() -> dict[str, list[tuple[int, float]]]:
    """The undisturbed run's trace, made once by the first test that needs it."""
    return {}


@pytest.fixture
def undisturbed(submit_real: Submit, traces: dict) -> list[tuple[int, float]]:
    if not traces:
        one = submit_real("undisturbed", num_steps=STEPS)
        one.wait_for_state("finished")
        assert exits(one) == [0]
        traces["undisturbed"] = one.losses()
    trace = traces["undisturbed"]
    assert [step for step, _ in trace] == list(range(STEPS))
    return trace


@pytest.mark.parametrize(("tasks", "leave_with"), [("per_process", 75), ("per_node", 0)])
def test_preempted_by_a_higher_partition(
    submit_real: Submit, undisturbed: list, cluster: Cluster, tasks: str, leave_with: int
) -> None:
    """Also with tasks that exit 0 in the grace time, which SLURM alone would take for the job's success."""
    one = submit_real(num_steps=STEPS, exclusive=True, pace_s=1, tasks=tasks, environment={"LEAVE_WITH": str(leave_with)})
    one.wait_for_step(5)
    blocker(cluster, "-p", "urgent", "-N4", seconds=3)
    until(lambda: one.status().state == "requeued", "requeued", one, 120)
    one.wait_for_state("finished")
    assert exits(one) == [75, 0]
    assert one.losses() == undisturbed


def test_scancel_and_resume(submit_real: Submit, undisturbed: list, cluster: Cluster) -> None:
    one = submit_real(num_steps=STEPS, pace_s=0.5)
    one.wait_for_step(5)
    first = one.job
    cluster.run(["scancel", first])
    assert "windtunnel resume" in one.wait_for_state("cancelled").detail
    assert exits(one) == [75]
    resume_chain(one.run)
    assert one.job != first
    one.wait_for_state("finished")
    assert exits(one) == [75, 0]
    assert one.losses() == undisturbed


def test_node_killed_in_mid_step(submit_real: Submit, undisturbed: list, cluster: Cluster) -> None:
    one = submit_real(num_steps=STEPS, pace_s=1, **TWO_NODES)
    one.wait_for_step(14)
    with killed(cluster, attempts_of(one.run)[0].started().nodes[1]):
        wait_for_second_attempt(one)
        one.wait_for_state("finished")
    assert attempts_of(one.run)[1].started().tokens == 10 * 1024
    assert one.losses() == undisturbed


def test_node_killed_during_a_checkpoint(submit_real: Submit, undisturbed: list, cluster: Cluster) -> None:
    """The node dies with a checkpoint half written: its hidden folder is there, and none of its name."""
    one = submit_real(num_steps=STEPS, pace_s=1, environment={"SLOW_DISK_S": "2"}, **TWO_NODES)
    one.wait_for_step(14)
    half = one.run.checkpoints / f".{one.run.checkpoint('stable', 20 * 1024).name}.attempt1.tmp"
    until(half.is_dir, "a checkpoint begins", one, 60)
    with killed(cluster, attempts_of(one.run)[0].started().nodes[0]):
        wait_for_second_attempt(one)
        assert attempts_of(one.run)[1].started().tokens == 10 * 1024
        one.wait_for_state("finished")
    assert one.losses() == undisturbed


def test_controller_restarts(submit_real: Submit, undisturbed: list, cluster: Cluster) -> None:
    one = submit_real(num_steps=STEPS, pace_s=1.5)  # squeue takes ten seconds and more to give up: it still runs then
    one.wait_for_step(5)
    cluster.stop_controller()
    assert "SLURM doesn't answer" in one.status().detail
    cluster.start_controller()
    one.wait_for_state("finished")
    assert exits(one) == [0]
    assert one.losses() == undisturbed


@pytest.mark.slow
def test_time_limit_three_times(submit_real: Submit, undisturbed: list) -> None:
    """SLURM's signal comes 30 to 90 s after the start of a job of two minutes; the fourth start may go on to the end."""
    one = submit_real(num_steps=STEPS, pace_s=8, time_limit=120, leave_before=30, environment={"PACED_ATTEMPTS": "3"})
    one.wait_for_state("finished", timeout_s=600)
    assert exits(one) == [75, 75, 75, 0]
    assert len({attempt.job for attempt in attempts_of(one.run)}) == 1  # the job keeps its id
    assert one.losses() == undisturbed


def test_two_nodes_of_four_ranks_with_tp_pp_dp(submit_real: Submit, undisturbed: list) -> None:
    one = submit_real(num_nodes=2, num_steps=STEPS, processes_per_node=4, gres="gpu:4", parallel={"tp": 2, "pp": 2})
    one.wait_for_state("finished", timeout_s=400)
    assert exits(one) == [0]
    for (_, ours), (_, theirs) in zip(one.losses(), undisturbed, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_fewer_nodes_after_a_loss(submit_real: Submit, undisturbed: list, cluster: Cluster) -> None:
    """No other node is free: two ranks go on with the global batch of four."""
    in_the_way = blocker(cluster, "-w", "node3,node4", seconds=600)
    one = submit_real(num_nodes=2, num_steps=STEPS, pace_s=1, min_nodes=1)
    one.wait_for_step(14)
    assert attempts_of(one.run)[0].started().nodes == ["node1", "node2"]
    with killed(cluster, attempts_of(one.run)[0].started().nodes[1]):
        one.wait_for_state("finished")
    cluster.run(["scancel", in_the_way])
    assert [attempt.started().world_size for attempt in attempts_of(one.run)] == [4, 2]
    assert len({line["batch_seqs"] for line in read_jsonl(one.run.metrics)}) == 1
    for (_, ours), (_, theirs) in zip(one.losses(), undisturbed, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_stale_ranks_cannot_write(submit_real: Submit, undisturbed: list, cluster: Cluster) -> None:
    """A node loses its network: its ranks live on while the job starts again elsewhere, and stop by themselves."""
    one = submit_real(num_steps=STEPS, pace_s=1.5)
    one.wait_for_step(12)
    node = attempts_of(one.run)[0].started().nodes[0]
    cluster.kill_slurmd(node)
    try:
        wait_for_second_attempt(one)
        log = attempts_of(one.run)[0].rank_logs()[0]
        until(lambda: "attempt 1: attempt 2 has taken over" in log.read_text(), "the old ranks stop", one, 60)
        one.wait_for_state("finished")
    finally:
        cluster.kill_node(node)
        cluster.revive_node(node)
    assert one.losses() == undisturbed


def test_two_runs_side_by_side(submit_real: Submit, undisturbed: list) -> None:
    both = [submit_real("a", num_steps=STEPS), submit_real("b", num_steps=STEPS)]
    for one in both:
        one.wait_for_state("finished")
        assert one.losses() == undisturbed
