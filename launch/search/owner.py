"""The one process that owns a study: it asks, assigns trials to workers, and collects what they write.

A study is a plain function that calls `run(trials)` and decides by the results what to ask next. After a kill it is simply
called again: what was asked is the same by construction (and checked), results that are there aren't run again.

    with conducting(study, workers=2) as run:  # setup.py
        results = run(trials)
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Self

from data_prep.atomic import write_json
from data_prep.progress import progress
from launch.search.beat import PATIENCE_S, Heart, Listener, beating, beats_now
from launch.search.errors import SearchError
from launch.search.folder import Study, read_or_none
from launch.search.trial import Result, Trial

POLL_S = 0.1
MAX_LOST = 2  # workers that may die over one trial before it counts as failed

Run = Callable[[Sequence[Trial]], list[Result]]
"""Trials → their results, in the same order."""


class Owner:
    """Holds the study while the block lasts; a second owner of the same folder is refused."""

    def __init__(self, study: Study, *, patience_s: float = PATIENCE_S) -> None:
        self.study, self._listener = study, Listener(patience_s=patience_s)
        self._busy: dict[str, int] = {}  # worker → trial
        self._lost: dict[int, int] = {}
        self._known: dict[int, Result] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if beats_now(self.study.owner):
            there = read_or_none(self.study.owner) or {}
            raise SearchError(
                f"{self.study.root}: process {there.get('pid')} on {there.get('host')} owns this study; let it finish or end it"
            )
        for path in (self.study.work / "assigned").glob("*.json"):  # by an owner before: who lives goes on with it
            number = (read_or_none(path) or {}).get("trial")
            if number is not None and self.study.worker(path.stem).is_file():
                self._busy[path.stem] = number
        self._stack.enter_context(beating(self.study.owner, host=socket.gethostname(), pid=os.getpid()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def dismiss(self) -> None:
        """Tells all workers to leave after their trial."""
        for path in (self.study.work / "workers").glob("*.json"):
            write_json(self.study.assigned(path.stem), {"stop": True})

    def run(self, trials: Iterable[Trial], *, watch: Callable[[], None] = lambda: None) -> list[Result]:
        """Results of the trials, in order.

        Args:
            trials: What is asked; those with a result aren't run again.
            watch: Called at each turn; may raise to give up (no worker left).
        """
        asked = list(trials)
        self._known |= self.study.results()
        for trial in asked:
            self._check(trial)
        waiting = [trial for trial in asked if trial.number not in self._known]
        for trial in waiting:
            self.study.ask(trial)
        if waiting:
            with progress(len(waiting), unit="trials", label=waiting[0].label) as bar:
                while open_trials := self._collect(waiting, advance=bar.advance):
                    watch()
                    self._assign(open_trials)
                    time.sleep(POLL_S)
        return [self._known[trial.number] for trial in asked]

    def _check(self, trial: Trial) -> None:
        known = self._known.get(trial.number)
        if known is not None and known.trial != trial:
            raise SearchError(
                f"{self.study.root}: trial {trial.number} was another one when it ran; finish the study with the version in "
                f"{self.study.environment.name}, or start a new one"
            )

    def _collect(self, waiting: Sequence[Trial], *, advance: Callable[[int], None]) -> list[Trial]:
        """Takes in new results; returns the trials that still have none."""
        left = []
        for trial in waiting:
            if trial.number in self._known:
                continue
            if (found := read_or_none(self.study.result(trial.number))) is None:
                left.append(trial)
                continue
            result = self._known[trial.number] = Result.model_validate(found)
            advance(1)
            value = f"{result.objective:.4f}" if result.objective is not None else result.detail
            print(f"trial {trial.number} {trial.label}: {result.status} {value} ({result.seconds:.1f} s)", file=sys.stderr)
        return left

    def _assign(self, left: Sequence[Trial]) -> None:
        """Gives each idle worker the next trial that nobody has."""
        open_numbers = {trial.number for trial in left}
        files = sorted((self.study.work / "workers").glob("*.json"))
        hearts = {path.stem: self._listener.hear(path) for path in files}
        alive = {name for name, heart in hearts.items() if heart is Heart.ALIVE}
        for name, number in list(self._busy.items()):
            if number not in open_numbers:
                del self._busy[name]
            elif hearts.get(name, Heart.LOST) is Heart.LOST:
                self._lose(name, next(trial for trial in left if trial.number == number))
        free = [trial.number for trial in left if trial.number not in self._busy.values()]
        for name in sorted(alive - set(self._busy)):
            if not free:
                break
            self._busy[name] = free.pop(0)
            write_json(self.study.assigned(name), {"trial": self._busy[name]})

    def _lose(self, name: str, trial: Trial) -> None:
        """A worker was lost over its trial: somebody else takes it, or it counts as failed."""
        del self._busy[name]
        self._lost[trial.number] = self._lost.get(trial.number, 0) + 1
        if self._lost[trial.number] >= MAX_LOST:
            failed = Result(trial=trial, status="failed", detail=f"{MAX_LOST} workers died over it")
            write_json(self.study.result(trial.number), failed.model_dump(mode="json"))
