"""The evaluation beside a run: on the run's own site, with its code and environment, and only where there is a site."""

from pathlib import Path

import pytest

from launch.cluster import LOCAL, load_site
from launch.errors import ClusterError
from launch.slurm.beside import NAME, beside
from launch.slurm.check import script_faults
from launch.slurm.record import ChainRecord, save_chain
from recipe.rundir import RunDir, write_json


def submitted(root: Path, site: str) -> RunDir:
    run = RunDir(root)
    save_chain(run, ChainRecord(site=site, recipe="r.yaml", data_dir=str(root / "data"), links=[]))
    write_json(run.jobs / "site.json", load_site("h100").model_dump(mode="json"))
    return run


def test_the_job_runs_the_command_on_the_runs_site(tmp_path: Path) -> None:
    run = submitted(tmp_path / "run", "h100")
    link, site, text = beside(run, ("eval", str(run.root), "--follow", "--tasks", "arc_easy"))
    assert link.name == NAME
    assert script_faults(text) == []
    assert f"#SBATCH --partition={site.partition}" in text
    assert f"#SBATCH --gres={site.gres}" in text
    assert f"PYTHONPATH={run.root}/code/src" in text
    assert text.rstrip().endswith(f"{NAME} eval {run.root} --follow --tasks arc_easy")


@pytest.mark.parametrize("site", [LOCAL, None])
def test_without_a_cluster_it_is_refused(tmp_path: Path, site: str | None) -> None:
    run = submitted(tmp_path / "run", site) if site else RunDir(tmp_path / "run")
    with pytest.raises(ClusterError, match="was not submitted to a cluster"):
        beside(run, ("eval",))
