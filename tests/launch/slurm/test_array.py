"""Many commands as one array on a real cluster: throttled, only what is missing, each end on record."""

from pathlib import Path

import pytest

from launch.cluster import Site
from launch.errors import ClusterError
from launch.slurm.array import submit_array, tasks_left
from launch.slurm.record import load_chain, read_end
from launch.status import statuses
from recipe.rundir import RunDir
from tests.launch.slurm.conftest import SITE, Submitted
from tests.slurm_cluster.cluster import Cluster

pytestmark = pytest.mark.slurm


def test_only_missing_tasks_are_submitted_again(tmp_path: Path, cluster: Cluster) -> None:
    site = Site.model_validate(SITE)
    folder = tmp_path / "study"
    presets = ["demo", "no-such-recipe", "tiny"]
    commands = [["show", preset] for preset in presets]
    study = Submitted(RunDir(folder), cluster)
    assert submit_array(folder, commands, site=site, name="trials", at_once=2, device=False) == [0, 1, 2]
    with pytest.raises(ClusterError, match=r"still on its way: trials \(job \d+\)"):
        submit_array(folder, commands, site=site, name="trials", at_once=2, device=False)
    assert "--array=0-2%2 " in (folder / "jobs" / "trials.sbatch").read_text()
    status = study.wait_for_state("failed")
    assert "2 of 3 tasks done, failed: 1 (bad input: " in status.detail
    assert "no-such-recipe" in read_end(study.run, "trials", 1).reason
    commands[1] = ["show", "xmodel2-1.2b"]
    assert submit_array(folder, [*commands, ["show", "demo"]], site=site, name="trials", device=False) == [1, 3]
    study.wait_for_state("finished")
    assert tasks_left(folder, name="trials", num_tasks=4) == []
    first, second = load_chain(study.run).link("trials").jobs
    assert read_end(study.run, "trials", 0).job == first
    assert read_end(study.run, "trials", 3).job == second
    assert submit_array(folder, [*commands, ["show", "demo"]], site=site, name="trials", device=False) == []
    assert statuses([study.run])[0].state == "finished"
