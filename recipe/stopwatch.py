"""Where a step's time goes: wall time by phase on the host, device time for what is measured inside one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """`lap(phase)` ends a phase, `inside(part)` measures a part of the one going on.

    A lap waits for the device, which the loop does anyway once a phase ends; a part doesn't: it is timed by events.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.laps: dict[str, float] = {}
        self._parts: list[tuple[str, Any, Any]] = []
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """The phase lasted until now, less its parts, which are laps of their own."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        left_s = now - self._last
        for part, start, end in self._parts:
            part_s = start.elapsed_time(end) / 1e3 if self.device == "cuda" else end - start
            self.laps[part] = self.laps.get(part, 0.0) + part_s
            left_s -= part_s
        self._parts.clear()
        self.laps[phase] = self.laps.get(phase, 0.0) + left_s
        self._last = now

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        start = self._mark()
        yield
        self._parts.append((part, start, self._mark()))

    def _mark(self) -> Any:
        if self.device != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
