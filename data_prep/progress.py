"""One progress display for every long job: a bar on a terminal, plain lines (rate, time left) in a log. To stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_INTERVAL_S = 15.0


class Progress(Protocol):
    """What the block gets: it calls ``advance`` with the units done since the last call."""

    def advance(self, amount: float = 1) -> None: ...


def _short(value: float) -> str:
    """1234567 -> '1.23M'."""
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def _clock(seconds: float) -> str:
    """3725 s -> '1:02:05'."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"


class _Plain:
    """Lines for logs: at most one each PLAIN_INTERVAL_S seconds, and one at the end."""

    def __init__(self, total: float | None, *, unit: str, label: str) -> None:
        self.total, self.unit, self.label = total, unit, label
        self.done, self.started_s = 0.0, time.monotonic()
        self.last_s = self.started_s

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        if time.monotonic() - self.last_s >= PLAIN_INTERVAL_S:
            self.line()

    def line(self) -> None:
        self.last_s = time.monotonic()
        elapsed_s = max(self.last_s - self.started_s, 1e-9)
        rate = self.done / elapsed_s
        of, left = "", ""
        if self.total:
            of = f" of {_short(self.total)}"
            left = f", {_clock((self.total - self.done) / rate)} left" if 0 < self.done < self.total else ""
        done = f"{self.label}: {_short(self.done)}{of} {self.unit}, {_short(rate)} {self.unit}/s"
        print(f"{done}, {_clock(elapsed_s)} so far{left}", file=sys.stderr, flush=True)


class _Bar:
    """A rich progress bar on a terminal."""

    def __init__(self, total: float | None, *, unit: str, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bar = RichProgress(*columns, console=Console(stderr=True))
        self.task = self.bar.add_task(label, total=total, amount="")
        self.unit, self.of = unit, f"/{_short(total)}" if total else ""

    def advance(self, amount: float = 1) -> None:
        self.bar.advance(self.task, amount)
        state = self.bar.tasks[0]
        self.bar.update(
            self.task, amount=f"{_short(state.completed)}{self.of} {self.unit}, {_short(state.speed or 0)}/s"
        )


@contextmanager
def progress(total: float | None, *, unit: str, label: str) -> Iterator[Progress]:
    """Shows how far a job is.

    Args:
        total: How many units there are; None when unknown.
        unit: The unit's name in the plural ("tokens", "bytes").
        label: What is being done.
    """
    if not sys.stderr.isatty():
        plain = _Plain(total, unit=unit, label=label)
        try:
            yield plain
        finally:
            plain.line()
        return
    shown = _Bar(total, unit=unit, label=label)
    with shown.bar:
        yield shown
