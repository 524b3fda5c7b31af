"""Trials of a plan's layouts as an array of a real cluster, and the table that puts them together."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from launch.plan.calibration import Calibration
from launch.slurm.record import load_chain
from recipe.load import load_recipe
from recipe.rundir import RunDir
from tests.launch.slurm.conftest import SITE, Submitted, windtunnel
from tests.launch.slurm.smallest import smallest_recipe, write_corpus
from tests.slurm_cluster.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_three_layouts_are_tried_as_jobs_and_collected(tmp_path: Path, cluster: Cluster) -> None:
    recipe = smallest_recipe(write_corpus(tmp_path / "code.jsonl"))
    (tmp_path / "smallest.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(SITE))
    (tmp_path / "tuned" / "task_01" / "trials" / "01-left").mkdir(parents=True)  # of a task that was killed before
    asked = ["tune", "smallest.yaml", "--cluster", "site.yaml", "--top", "3", "--steps", "3", "--warmup", "1", "--out", "tuned"]
    asked += ["-o", "optim.peak_lr=0.005"]

    submitted = windtunnel(*asked, cwd=tmp_path, timeout_s=300)
    assert submitted.returncode == 0, submitted.stderr[-3000:]
    said, _, then = submitted.stdout.strip().partition("; then: windtunnel ")
    assert said == "tuned: 3 trials submitted"
    study = Submitted(RunDir(tmp_path / "tuned"), cluster)
    study.wait_for_state("finished", timeout_s=500)
    assert [link.name for link in load_chain(study.run).links] == ["trials"]

    collected = windtunnel(*shlex.split(then), cwd=tmp_path)
    assert collected.returncode == 0, collected.stderr[-3000:] + study.explain()
    answer = json.loads((study.run.root / "tune.json").read_text())
    assert [row["verdict"] for row in answer["results"]] == ["measured"] * 3
    assert len({row["label"] for row in answer["results"]}) == 3
    assert all(len(row["steps_s"]) >= 4 and row["measured_s"] > 0 for row in answer["results"])
    for row in answer["results"]:
        assert row["label"] in collected.stdout
    winner = min(answer["results"], key=lambda row: row["measured_s"])
    assert answer["best"] == winner["label"]
    layout = load_recipe(str(study.run.root / "layout.yaml"), [])
    assert {"tp": layout.parallel.tp, "pp": layout.parallel.pp, "mbs": layout.batch.micro_seqs} == {
        key: winner["layout"][key] for key in ("tp", "pp", "mbs")
    }
    assert Calibration.load(study.run.root / "calibration.json").source.startswith("tune of 3 layouts")

    again = windtunnel(*asked, cwd=tmp_path, timeout_s=300)
    assert again.stdout.startswith("tuned: 0 trials submitted")  # all have succeeded
