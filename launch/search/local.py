"""Workers on this machine, as children of the owner."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from launch.search.errors import SearchError
from launch.search.folder import Study

MAX_RESTARTS = 3


class LocalWorkers:
    """So many worker processes, started when the first trial waits for them, and again when one dies."""

    def __init__(self, study: Study, count: int) -> None:
        self.study, self._count = study, count
        self._environment = dict(os.environ)
        self._environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
        self._restarts = 0
        self._started = 0
        self._children: dict[str, subprocess.Popen] = {}

    def watch(self) -> None:
        """Starts workers that aren't there; raises `SearchError` with the log's end if they go on dying."""
        while self._started < self._count:
            self._start()
        for name, child in list(self._children.items()):
            if child.poll() is None:
                continue
            del self._children[name]
            self._restarts += 1
            if self._restarts > MAX_RESTARTS:
                log = self.study.worker_log(name).read_text(encoding="utf-8", errors="replace").splitlines()
                raise SearchError("\n".join([f"{self.study.worker_log(name)}: workers go on dying:", *log[-15:]]))
            self._start()

    def end(self) -> None:
        """After the owner said stop: a moment to leave, then the end."""
        for child in self._children.values():
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _start(self) -> None:
        self._started += 1
        name = f"local-{os.getpid()}-{self._started}"
        self.study.worker_log(name).parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "launch.search.worker", str(self.study.root), "--name", name]
        with open(self.study.worker_log(name), "ab") as log:
            self._children[name] = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)


@contextmanager
def local_workers(study: Study, count: int) -> Iterator[LocalWorkers]:
    """Workers for as long as the block lasts."""
    workers = LocalWorkers(study, count)
    try:
        yield workers
    finally:
        workers.end()
