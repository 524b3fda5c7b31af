"""A cluster for the tests marked `slurm`, and a run on it whose ranks are a small real program."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from launch.cluster import Site
from launch.slurm import client
from launch.slurm.chain import Link, Request
from launch.slurm.record import load_chain
from launch.slurm.render import Place
from launch.slurm.submit import Submission, submit_links, write_files
from launch.status import RunStatus, statuses
from launch.supervise.attempts import attempts_of
from recipe.config import RunConfig
from recipe.prepare import create_run
from recipe.rundir import RunDir, read_jsonl
from tests.launch.slurm.smallest import smallest_recipe, write_corpus
from tests.launch.tiny_run import tiny_config, tiny_run
from tests.slurm_cluster.cluster import Cluster, missing_programs

ROOT = Path(__file__).parents[3]
SITE = {
    "name": "sim", "partition": "batch", "accelerator": "cpu", "processes_per_node": 2, "gres": "gpu:2", "cpus_per_process": 1,
    "time_limit": 3600, "leave_before": 30, "environment": {"GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu"},
    "health": {"min_disk_free": "1MB", "timeout": "120s"},
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if missing := missing_programs():
        pytest.skip(f"no SLURM here, missing {', '.join(missing)}: run tests/slurm_cluster/install.sh where there is apt")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the cluster is taken down before this process ends
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and its children, would ignore it
    with Cluster(num_nodes=4) as running:
        before = dict(os.environ)
        os.environ.update({"SLURM_CONF": running.env["SLURM_CONF"], "PATH": running.env["PATH"]})
        yield running
        os.environ.clear()
        os.environ.update(before)


@dataclass
class Submitted:
    """A run whose training is a job of the cluster."""

    run: RunDir
    cluster: Cluster

    @property
    def job(self) -> str:
        return load_chain(self.run).link("train").job

    def status(self) -> RunStatus:
        return statuses([self.run])[0]

    def losses(self) -> list[tuple[int, float]]:
        return [(line["step"], line["loss"]) for line in read_jsonl(self.run.metrics)]

    def wait_for_step(self, step: int, *, timeout_s: float = 300) -> None:
        def reached() -> bool:
            assert self.status().state not in ("failed", "lost"), f"step {step} wanted\n{self.explain()}"
            return any(line["step"] >= step for line in read_jsonl(self.run.metrics))

        until(reached, f"step {step}", self, timeout_s)

    def wait_for_state(self, *states: str, timeout_s: float = 300) -> RunStatus:
        def reached() -> bool:
            state = self.status().state
            over = state in ("finished", "failed", "cancelled", "lost", "blocked") and state not in states
            assert not over, f"{states} wanted\n{self.explain()}"
            return state in states

        until(reached, f"one of {states}", self, timeout_s)
        return self.status()

    def explain(self) -> str:
        logs = "\n".join(f"== {path}\n{path.read_text()[-3000:]}" for path in sorted(self.run.jobs.glob("*.log")))
        return f"{self.status()}\n{self.cluster.run(['squeue']).stdout}\n{logs}"


def until(ready: Callable[[], bool], what: str, submitted: Submitted, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s\n{submitted.explain()}"
        time.sleep(0.2)


def exits(one: Submitted) -> list[int | None]:
    """Exit codes of a run's attempts; −1 for one that has not ended."""
    return [end.exit_code if (end := attempt.ended()) else -1 for attempt in attempts_of(one.run)]


def wait_for_second_attempt(one: Submitted) -> None:
    until(lambda: any(attempt.number == 2 and attempt.started() for attempt in attempts_of(one.run)), "started again", one, 180)


def blocker(cluster: Cluster, *options: str, seconds: int = 300) -> str:
    """A job that has its nodes to itself; submitted, and with no `-p` of its own also seen to run. Returns its id."""
    sbatch = ["sbatch", "--parsable", "--exclusive", "--output=/dev/null", *options, "--wrap", f"sleep {seconds}"]
    job = cluster.run(sbatch).stdout.strip()
    deadline = time.monotonic() + 60
    while "-p" not in options and cluster.run(["squeue", "-h", "-j", job, "-o", "%T"]).stdout.strip() != "RUNNING":
        assert time.monotonic() < deadline, f"job {job} doesn't start\n{cluster.run(['squeue']).stdout}"
        time.sleep(0.2)
    return job


@contextmanager
def killed(cluster: Cluster, node: str) -> Iterator[None]:
    """A node dies with all its tasks, and is back after the block."""
    cluster.kill_node(node)
    try:
        yield
    finally:
        cluster.revive_node(node)


def windtunnel(*arguments: str, cwd: Path = ROOT, timeout_s: float = 120) -> subprocess.CompletedProcess:
    """The command line, as a person's shell has it."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), COLUMNS="160")
    return subprocess.run(
        [sys.executable, "-m", "launch.cli", *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s
    )


def submit_training(
    run: RunDir, config: RunConfig, site: Site, *, data_dir: Path, nodes: tuple[int, int], before: str
) -> None:
    """A chain of the training link alone, on (at least, at most) so many nodes; `before` comes before its program."""
    least, most = nodes
    place = Place(run_dir=run.root, folder=ROOT, data_dir=data_dir, python=sys.executable, num_nodes=most, min_nodes=least)
    request = Request(recipe=run.jobs / "recipe.yaml", run_dir=run.root, data_dir=data_dir)
    link = Link(name="train", purpose="a test", train=".", device=True)
    submission = Submission(run=run, config=config, site=site, request=request, place=place, links=[link])
    chain = write_files(submission)
    file = run.jobs / "train.sbatch"
    file.write_text(file.read_text().replace("exec ", f"{before}\nexec "))
    submit_links(run, chain)


@pytest.fixture
def submit(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Submitted]]:
    """Submits a run with just its training link; what is left of it is cancelled at the end."""
    made: list[Submitted] = []

    def start(
        name: str = "run", *, num_nodes: int = 1, min_nodes: int | None = None, tiny: dict | None = None, **site: object
    ) -> Submitted:
        settings = Site.model_validate(SITE | site)
        environment = settings.environment | {"WINDTUNNEL_TRAIN_MODULE": "tests.launch.tiny_train"} | (tiny or {})
        settings = settings.model_copy(update={"environment": environment})
        run, _ = tiny_run(tmp_path / name, world_size=num_nodes * settings.processes_per_node)
        code = f"export PYTHONPATH={ROOT}"  # the small program is no part of the snapshot
        submit_training(
            run, tiny_config(), settings, data_dir=tmp_path / "data", nodes=(min_nodes or num_nodes, num_nodes), before=code
        )
        made.append(Submitted(run, cluster))
        return made[-1]

    yield start
    client.cancel([one.job for one in made if one.job])


@dataclass
class Text:
    """Real text and what was made of it, once for all runs of a session."""

    corpus: Path
    data_dir: Path

    def recipe(self, **changes: object) -> RunConfig:
        return smallest_recipe(self.corpus, **changes)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    folder = tmp_path_factory.mktemp("text")
    return Text(write_corpus(folder / "code.jsonl"), folder / "data")


@pytest.fixture
def submit_real(cluster: Cluster, text: Text, tmp_path: Path) -> Iterator[Callable[..., Submitted]]:
    """Submits real training of the smallest model: its training link, the code as it is now."""
    made: list[Submitted] = []

    def start(
        name: str = "run", *, num_nodes: int = 1, min_nodes: int | None = None, num_steps: int = 60,
        pace_s: float = 0.0, parallel: dict | None = None, environment: dict | None = None, **site: object,
    ) -> Submitted:
        settings = Site.model_validate(SITE | site)
        paced = {"WINDTUNNEL_TRAIN_MODULE": "tests.launch.slurm.paced", "PACE_S": str(pace_s)} | (environment or {})
        settings = settings.model_copy(update={"environment": settings.environment | paced})
        config = text.recipe(num_steps=num_steps, **(parallel or {}))
        run = create_run(
            config, tmp_path / name, world_size=num_nodes * settings.processes_per_node, data_dir=text.data_dir
        )
        beside = f"export PYTHONPATH=$PYTHONPATH:{ROOT}"  # the snapshot is what runs; only what sets the pace is no part of it
        submit_training(
            run, config, settings, data_dir=text.data_dir, nodes=(min_nodes or num_nodes, num_nodes), before=beside
        )
        made.append(Submitted(run, cluster))
        return made[-1]

    yield start
    client.cancel([one.job for one in made if one.job])
