"""What a run directory remembers of its chain: which job each link was submitted as, and how each ended."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from launch.slurm.chain import Link
from recipe.rundir import RunDir, read_json, write_json


@dataclass(kw_only=True)
class LinkRecord:
    """A link as it was submitted. `jobs`: ids of its submissions, the last one counts."""

    name: str
    purpose: str
    train: str | None
    arguments: list[str]
    after: list[str]
    num_tasks: int
    jobs: list[str] = field(default_factory=list)
    time: float = 0.0

    @classmethod
    def of(cls, link: Link, *, jobs: list[str] | None = None) -> "LinkRecord":
        return cls(
            name=link.name, purpose=link.purpose, train=link.train, arguments=list(link.arguments), after=list(link.after),
            num_tasks=link.num_tasks, jobs=jobs or [],
        )

    @property
    def job(self) -> str | None:
        return self.jobs[-1] if self.jobs else None


@dataclass(kw_only=True)
class ChainRecord:
    """`jobs/chain.json`."""

    site: str
    recipe: str
    data_dir: str
    links: list[LinkRecord]
    branches: dict[str, int] = field(default_factory=dict)
    """Name of each decay branch and the tokens at which it leaves."""
    min_nodes: int = 1
    """As few as a training job may go on with."""
    cancelled: float | None = None
    """When `windtunnel cancel` was typed; None after a submission."""

    def link(self, name: str) -> LinkRecord:
        return next(link for link in self.links if link.name == name)


@dataclass(frozen=True, kw_only=True)
class LinkEnd:
    """How a link's program ended: `jobs/<link>.exit.json`, or `<link>.<task>.exit.json` of an array's task."""

    job: str
    exit_code: int
    reason: str
    time: float


def chain_file(run: RunDir) -> Path:
    return run.jobs / "chain.json"


def load_chain(run: RunDir) -> ChainRecord | None:
    """None for a run that no cluster was asked to run."""
    path = chain_file(run)
    if not path.is_file():
        return None
    content: dict[str, Any] = read_json(path)
    return ChainRecord(**content | {"links": [LinkRecord(**link) for link in content["links"]]})


def save_chain(run: RunDir, chain: ChainRecord) -> None:
    write_json(chain_file(run), asdict(chain))


def end_file(run: RunDir, link: str, task: int | None = None) -> Path:
    return run.jobs / (f"{link}.exit.json" if task is None else f"{link}.{task}.exit.json")


def write_end(run: RunDir, link: str, *, job: str, exit_code: int, reason: str, task: int | None = None) -> None:
    end = LinkEnd(job=job, exit_code=exit_code, reason=reason, time=time.time())
    write_json(end_file(run, link, task), asdict(end))


def read_end(run: RunDir, link: str, task: int | None = None) -> LinkEnd | None:
    path = end_file(run, link, task)
    return LinkEnd(**read_json(path)) if path.is_file() else None
