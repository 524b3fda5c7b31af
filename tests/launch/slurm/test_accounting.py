"""What `status` knows of jobs that the controller has forgotten: from slurmdbd where there is one, else that they are lost."""

from collections.abc import Callable, Iterator

import pytest

from launch.slurm import client
from tests.launch.slurm.conftest import Submitted, until
from tests.slurm_cluster.cluster import Cluster, missing_programs

pytestmark = pytest.mark.slurm
Submit = Callable[..., Submitted]


@pytest.fixture(scope="module", params=[True, False], ids=["slurmdbd", "none"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A controller that forgets ended jobs within a minute."""
    if missing := missing_programs(accounting=request.param):
        pytest.skip(f"no SLURM here, missing {', '.join(missing)}: run tests/slurm_cluster/install.sh where there is apt")
    with Cluster(num_nodes=1, accounting=request.param, min_job_age_s=2) as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", running.env["SLURM_CONF"])
        patch.setenv("PATH", running.env["PATH"])
        yield running


def forgotten(cluster: Cluster, *jobs: str) -> bool:
    known = cluster.run(["squeue", "-h", "-t", "all", "-o", "%A"]).stdout.split()
    return not set(jobs) & set(known)


def test_jobs_that_left_no_record(submit: Submit, cluster: Cluster) -> None:
    """One whose batch script fails before our program starts, one that scancel ends while it waits, one that finishes."""
    failing = submit("failing", setup=["exit 3"])
    waiting = submit("waiting", environment={"DS_ACCELERATOR": "cpu"}, extra={"begin": "now+1hour"})
    done = submit("done")
    cluster.run(["scancel", waiting.job])
    done.wait_for_state("finished")
    until(lambda: forgotten(cluster, failing.job, waiting.job, done.job), "squeue forgets them", done, 120)
    if not cluster.layout.accounting:
        assert client.accounting([failing.job]) is None
        assert failing.status().state == waiting.status().state == "lost"
        assert "SLURM no longer knows its job" in failing.status().detail
    else:
        until(lambda: failing.status().state == "failed", "failed, says sacct", failing, 30)
        assert failing.status().detail.startswith("train: failed; when mended: windtunnel resume")
        assert waiting.status().state == "cancelled"
    assert done.status().state == "finished"
