"""The plain sbatch files of `launch/scripts` on a real cluster, told this cluster's size by sbatch's options."""

from pathlib import Path

import pytest

from recipe.rundir import RunDir
from tests.launch.test_scripts import SCRIPTS, check, environment, recipe  # noqa: F401  recipe is a fixture
from tests.slurm_cluster.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_by_srun(zero: int, recipe: Path, tmp_path: Path, cluster: Cluster) -> None:  # noqa: F811
    options = ("--nodes=2", "--ntasks-per-node=1", "--gres=gpu:1", "--cpus-per-task=1", "--time=10", f"--chdir={tmp_path}")
    script = str(SCRIPTS / f"srun_zero{zero}.sbatch")
    env = environment(GLOO_SOCKET_IFNAME="lo")
    done = cluster.run(["sbatch", "--wait", "--parsable", *options, script, str(recipe), "run"], timeout_s=240, env=env)
    said = "".join(path.read_text() for path in tmp_path.glob("windtunnel-*.log"))
    assert done.returncode == 0, done.stderr + said[-3000:]
    check(RunDir(tmp_path / "run"), zero=zero)
