"""Workers as tasks of one SLURM job array, wherever the owner runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from launch.cluster import load_site
from launch.search.errors import SearchError
from launch.search.folder import Study
from launch.slurm.array import submit_array
from launch.slurm.record import ChainRecord, load_chain
from launch.slurm.submit import live_links
from recipe.rundir import RunDir

ASK_EVERY_S = 30.0


class ArrayWorkers:
    """The array that serves a study; one that a killed owner left behind is taken over."""

    def __init__(self, study: Study, count: int, *, cluster: str) -> None:
        self.study = study
        chain = self._chain()
        if chain is None or not live_links(chain):
            site, name = load_site(cluster), f"workers-{time.time():.0f}"
            submit_array(
                study.root, [["worker", str(study.root.absolute())]] * count, site=site, name=name,
                purpose="workers of a study", at_once=count, device=site.accelerator != "cpu", data_dir=study.work,
            )  # fmt: skip
        self._asked_at = time.monotonic()

    def watch(self) -> None:
        """Raises `SearchError` once the queue no longer has the array."""
        if time.monotonic() - self._asked_at < ASK_EVERY_S:
            return
        self._asked_at = time.monotonic()
        chain = self._chain()
        if chain is None or not live_links(chain):
            raise SearchError(
                f"{self.study.root}: the array of workers has ended; `windtunnel logs {self.study.root}` says why, "
                "and the same command as before goes on with the study"
            )

    def _chain(self) -> ChainRecord | None:
        return load_chain(RunDir(self.study.root.absolute()))


@contextmanager
def array_workers(study: Study, count: int, *, cluster: str) -> Iterator[ArrayWorkers]:
    """Workers that leave by themselves once the owner says stop, or is gone."""
    yield ArrayWorkers(study, count, cluster=cluster)
