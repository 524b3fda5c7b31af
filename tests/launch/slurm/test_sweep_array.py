"""A small sweep whose workers are an array of a real cluster; the owner runs here."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch.search.folder import Study
from launch.slurm.record import load_chain
from recipe.rundir import RunDir
from tests.launch.slurm.conftest import SITE
from tests.launch.slurm.smallest import smallest_recipe, write_corpus
from tests.slurm_cluster.cluster import Cluster

pytestmark = pytest.mark.slurm


def test_a_sweep_on_two_tasks_of_an_array(tmp_path: Path, cluster: Cluster) -> None:
    recipe = smallest_recipe(write_corpus(tmp_path / "code.jsonl"), num_steps=12)
    (tmp_path / "smallest.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(SITE))
    command = [
        sys.executable, "-m", "launch.cli", "sweep", "smallest.yaml", "--search", "peak_lr=0.002:0.05:log", "--trials", "6",
        "--seeds", "2", "--finalists", "1", "--workers", "2", "--cluster", "site.yaml", "--out", "study",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    study = Study(tmp_path / "study")
    results = study.results()
    assert len(results) == 12  # the recipe, six points, an anchor, a finalist; two seeds of each but the points
    assert all(one.status == "done" for one in results.values())
    (link,) = load_chain(RunDir(study.root)).links
    assert link.name.startswith("workers-")
    assert "is best by the mean of 2 fresh seeds" in study.readme.read_text()
