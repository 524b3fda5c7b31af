"""Real training of the smallest model under SLURM: what happens to a job must not change a bit of its loss trace."""

from collections.abc import Callable

import pytest

from launch.chain import resume_chain
from launch.supervise.attempts import attempts_of
from tests.launch.slurm.conftest import Submitted, until
from tests.launch.slurm.test_training_job import exits
from tests.slurm_cluster.cluster import Cluster

pytestmark = pytest.mark.slurm
Submit = Callable[..., Submitted]
LONG = 120  # steps, for tests that must meet a run in its middle


@pytest.fixture(scope="module")
def undisturbed() -> dict[int, list[tuple[int, float]]]:
    """Loss traces by number of ranks, each made once by the first test that needs it."""
    return {}


def expect(one: Submitted, undisturbed: dict, submit_real: Submit, *, num_nodes: int = 1) -> None:
    """The trace is that of an undisturbed run of the same layout."""
    if num_nodes not in undisturbed:
        other = submit_real("undisturbed", num_nodes=num_nodes, num_steps=LONG)
        other.wait_for_state("finished")
        assert exits(other) == [0]
        undisturbed[num_nodes] = other.losses()
    assert len(one.losses()) == LONG
    assert one.losses() == undisturbed[num_nodes]


def test_preempted_by_a_higher_partition(submit_real: Submit, undisturbed: dict, cluster: Cluster) -> None:
    one = submit_real(num_steps=LONG, exclusive=True)
    one.wait_for_step(15)
    cluster.run(["sbatch", "-p", "urgent", "-N4", "--exclusive", "--wrap", "sleep 5"])
    one.wait_for_state("finished")
    assert exits(one) == [75, 0]
    expect(one, undisturbed, submit_real)


def test_scancel_and_resume(submit_real: Submit, undisturbed: dict, cluster: Cluster) -> None:
    one = submit_real(num_steps=LONG)
    one.wait_for_step(25)
    cluster.run(["scancel", one.job])
    one.wait_for_state("cancelled")
    assert exits(one) == [75]
    resume_chain(one.run)
    one.wait_for_state("finished")
    expect(one, undisturbed, submit_real)


def test_node_killed_in_mid_step(submit_real: Submit, undisturbed: dict, cluster: Cluster) -> None:
    one = submit_real(num_nodes=2, num_steps=LONG)
    one.wait_for_step(25)
    node = attempts_of(one.run)[0].started().nodes[1]
    cluster.kill_node(node)
    try:
        until(lambda: len(attempts_of(one.run)) == 2, "started again", one, 120)
        one.wait_for_state("finished")
    finally:
        cluster.start_node(node)
    assert attempts_of(one.run)[1].started().tokens >= 20 * 1024
    expect(one, undisturbed, submit_real, num_nodes=2)


@pytest.mark.slow
def test_node_killed_during_a_checkpoint(submit_real: Submit, undisturbed: dict, cluster: Cluster) -> None:
    """Each checkpoint is preceded by its event or its half-written folder: the node dies as soon as one is seen."""
    one = submit_real(num_nodes=2, num_steps=LONG)
    one.wait_for_step(15)
    before = set(one.run.checkpoints.glob("*"))
    node = attempts_of(one.run)[0].started().nodes[0]
    until(lambda: bool(set(one.run.checkpoints.glob("*")) - before), "a checkpoint begins", one, 60)
    cluster.kill_node(node)
    try:
        until(lambda: len(attempts_of(one.run)) == 2, "started again", one, 120)
        one.wait_for_state("finished")
    finally:
        cluster.start_node(node)
    expect(one, undisturbed, submit_real, num_nodes=2)


@pytest.mark.slow
def test_controller_restarts(submit_real: Submit, undisturbed: dict, cluster: Cluster) -> None:
    one = submit_real(num_steps=LONG)
    one.wait_for_step(10)
    cluster.stop_controller()
    cluster.start_controller()
    one.wait_for_state("finished")
    assert exits(one) == [0]
    expect(one, undisturbed, submit_real)


@pytest.mark.slow
def test_time_limit_three_times(submit_real: Submit) -> None:
    """Two minutes a job, of which SLURM gives between 30 and 90 s: long enough a run meets it three times."""
    one = submit_real(num_steps=3000, time_limit=120, leave_before=30)
    until(lambda: exits(one).count(75) >= 3, "three time limits", one, 600)
    one.wait_for_state("finished", timeout_s=900)
    assert set(exits(one)[:-1]) == {75}
    assert [step for step, _ in one.losses()] == list(range(3000))


@pytest.mark.slow
def test_two_nodes_of_four_ranks_with_tp_pp_dp(submit_real: Submit, undisturbed: dict) -> None:
    one = submit_real(num_nodes=2, num_steps=LONG, processes_per_node=4, gres="gpu:4", parallel={"tp": 2, "pp": 2})
    one.wait_for_state("finished", timeout_s=300)
    plain = submit_real("plain", num_steps=LONG)
    plain.wait_for_state("finished")
    for (_, ours), (_, theirs) in zip(one.losses(), plain.losses(), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_two_runs_side_by_side(submit_real: Submit, undisturbed: dict) -> None:
    both = [submit_real("a", num_steps=LONG), submit_real("b", num_steps=LONG)]
    for one in both:
        one.wait_for_state("finished")
        expect(one, undisturbed, submit_real)
