"""The whole chain as a user types it: raw text to report on a real cluster, with an array task that fails on the way."""

from pathlib import Path

import orjson
import pytest
import yaml

from launch.slurm.record import load_chain
from launch.supervise.attempts import attempts_of
from recipe.rundir import RunDir
from tests.launch.slurm.conftest import SITE, Submitted, until, windtunnel
from tests.launch.slurm.smallest import smallest_recipe, write_corpus
from tests.slurm_cluster.cluster import Cluster

pytestmark = pytest.mark.slurm
SOURCES = ("one", "two", "three", "four")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe of four sources, and a site file."""
    whole = write_corpus(tmp_path / "all.jsonl").read_bytes().splitlines(keepends=True)
    for index, name in enumerate(SOURCES):
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(whole[index::4]))
    config = smallest_recipe(Path("all.jsonl")).model_dump(mode="json", exclude_defaults=True)
    config["sources"] = {name: {"path": f"{name}.jsonl", "heldout_frac": 0.05} for name in SOURCES}
    config["tokenizer"] = {"train_on": {"one": 1, "two": 1}, "train_bytes": "300KB"}
    for stage in config["stages"]:
        stage["mixture"] = dict.fromkeys(SOURCES, 25.0)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(SITE))
    return tmp_path


def test_raw_text_to_report_with_two_failing_tasks(folder: Path, cluster: Cluster) -> None:
    for task in (2, 3):
        (folder / f"bad-{task}").touch()
    submitted = windtunnel(
        "submit", "recipe.yaml", "--cluster", "site.yaml", "--decay-at", "40960", "--run-dir", "runs/chain",
        "--set", f"setup=['test ! -e {folder}/bad-${{SLURM_ARRAY_TASK_ID:-none}}']", cwd=folder,
    )
    assert submitted.returncode == 0, submitted.stderr
    run = RunDir(folder / "runs" / "chain")
    one = Submitted(run, cluster)
    try:
        status = one.wait_for_state("failed", timeout_s=300)
        assert "tokenize: 2 of 4 tasks done, failed: 2, 3 (failed)" in status.detail
        states = {link.name: link.state for link in status.links}
        assert states["tokenizer"] == "done"
        given_up = lambda: {link.name: link.state for link in one.status().links}["verify"] in ("cancelled", "blocked")  # noqa: E731
        until(given_up, "no verify after a failure", one, 60)
        for task in (2, 3):
            (folder / f"bad-{task}").unlink()
        again = windtunnel("resume", "runs/chain", cwd=folder)
        assert again.returncode == 0, again.stderr
        one.wait_for_state("finished", timeout_s=900)
    except BaseException:
        windtunnel("cancel", "runs/chain", cwd=folder)
        raise
    chain = load_chain(run)
    assert [len(chain.link(name).jobs) for name in ("tokenizer", "tokenize", "train")] == [1, 2, 2]
    again = cluster.run(["squeue", "-h", "-r", "-t", "all", "-j", chain.link("tokenize").job, "-o", "%K"]).stdout.split()
    assert sorted(again) == ["2", "3"]  # only the failed tasks ran again
    assert len(one.losses()) == 60
    branch = RunDir(run.branches / "at-40960")
    assert attempts_of(branch)[-1].ended().exit_code == 0
    assert (run.export / "hf" / "config.json").is_file()
    assert (branch.export / "hf" / "config.json").is_file()
    assert run.report.stat().st_size > 10_000
    said = windtunnel("status", "runs/chain", "--json", cwd=folder)
    assert orjson.loads(said.stdout)["state"] == "finished"


def test_refused_submissions(folder: Path, cluster: Cluster) -> None:
    """Each by the command line: exit code 2, a message that says what would be right, nothing written or submitted."""
    cases = [
        (("--nodes", "8"), "partition batch has 4"),
        (("--set", "partition=bach"), "did you mean batch?"),
        (("--set", "partition=short", "--set", "time_limit=1h"), "ends jobs after 10m"),
        (("--set", "timelimit=1h"), "did you mean time_limit?"),
        (("--set", "gres=gpu:9"), "has gpu:8"),
        (("--set", "extra.mailtype=FAIL"), "did you mean mail-type?"),
        (("--set", "setup=['#SBATCH --mem=1']"), "SLURM ignores an #SBATCH line"),
        (("--after", "99999"), "--after 99999: no such job"),
        (("--min-nodes", "2"), "must be from 1 to --nodes 1"),
        (("-o", "parallel.tp=3"), "parallel.tp=3"),
        (("--until", "tea"), "must be one of data, train, report"),
    ]
    jobs = cluster.run(["squeue", "-h", "-t", "all", "-o", "%i"]).stdout
    for arguments, message in cases:
        done = windtunnel("submit", "recipe.yaml", "--cluster", "site.yaml", *arguments, cwd=folder)
        assert done.returncode == 2, (arguments, done.stderr)
        assert message in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert not (folder / "runs").exists()
    assert cluster.run(["squeue", "-h", "-t", "all", "-o", "%i"]).stdout == jobs


def test_an_edited_file_is_checked_again(folder: Path, cluster: Cluster) -> None:
    assert windtunnel("submit", "recipe.yaml", "--cluster", "site.yaml", "--until", "data", cwd=folder).returncode == 0
    windtunnel("cancel", "runs/smallest", cwd=folder)
    file = folder / "runs" / "smallest" / "jobs" / "verify.sbatch"
    file.write_text(file.read_text().replace("\n", "\r\n"))
    done = windtunnel("resume", "runs/smallest", cwd=folder)
    assert done.returncode == 2
    assert "verify.sbatch: line 1: ends as on Windows (CRLF)" in done.stderr


def test_dry_run_prints_everything_and_writes_nothing(folder: Path) -> None:
    done = windtunnel("submit", "recipe.yaml", "--cluster", "site.yaml", "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("#!/bin/bash") == 7
    assert "report     one page about the run after export" in done.stdout
    assert not (folder / "runs").exists()


def test_doctor_writes_a_site_file_that_fits(folder: Path, cluster: Cluster) -> None:
    written = windtunnel("doctor", "--cluster", "mine.yaml", cwd=folder)
    assert written.returncode == 0, written.stderr
    assert "mine.yaml: written from sinfo" in written.stdout
    assert "mine.yaml: fits this cluster" in written.stdout
    text = (folder / "mine.yaml").read_text()
    assert "partition: batch" in text
    assert "gres: gpu:8" in text
    (folder / "mine.yaml").write_text(text.replace("partition: batch", "partition: bach"))
    checked = windtunnel("doctor", "--cluster", "mine.yaml", cwd=folder)
    assert (checked.returncode, "did you mean batch?" in checked.stdout) == (1, True)


@pytest.mark.slow
def test_here_by_the_same_chain(folder: Path, cluster: Cluster) -> None:
    """The same files in the run directory, the same loss trace, bit for bit, with SLURM and without."""
    there = ("submit", "recipe.yaml", "--cluster", "site.yaml", "--decay-at", "40960", "--until", "train", "--run-dir", "there")
    assert windtunnel(*there, cwd=folder).returncode == 0
    one = Submitted(RunDir(folder / "there"), cluster)
    one.wait_for_state("finished", timeout_s=400)
    here = ("submit", "recipe.yaml", "--cluster", "local", "--set", "processes_per_node=2", *there[4:-1], "here")
    done = windtunnel(*here, cwd=folder, timeout_s=300)
    assert done.returncode == 0, done.stderr
    other = Submitted(RunDir(folder / "here"), cluster)
    assert other.losses() == one.losses()
    assert other.status().state == "finished"
    assert _kept(other.run) ^ _kept(one.run) == set()


def _kept(run: RunDir) -> set[str]:
    """Files of a run directory, without what names a job and the snapshot of the code."""
    files = (path.relative_to(run.root) for path in run.root.rglob("*") if path.is_file())
    return {str(path) for path in files if not {"code", "jobs", "attempts"} & set(path.parts)}


def test_a_decay_without_its_checkpoint_is_refused(folder: Path, cluster: Cluster) -> None:
    for at, said in (("41K", "no checkpoint is kept at 41000 tokens; nearest: 40960, 51200"), ("61440", "no stage follows")):
        done = windtunnel("submit", "recipe.yaml", "--cluster", "site.yaml", "--decay-at", at, cwd=folder)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
        assert not (folder / "runs").exists()
