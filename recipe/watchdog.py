"""Notices that a rank has stopped making progress, says where it stands, and ends the process so that it can be restarted.

A collective that one rank never joins blocks the others for ever; nothing raises. Each rank beats once a step. Without a beat
for the timeout, the stacks of all its threads go to its log and it leaves with the code that asks for a restart.
"""

import faulthandler
import os
import sys
import threading
import time

from recipe.exits import REQUEUE


class Watchdog:
    """Watches one process; `beat()` at every step."""

    def __init__(self, *, rank: int, timeout_s: float) -> None:
        self.rank, self.timeout_s = rank, timeout_s
        self._last, self._what = time.monotonic(), "start"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def beat(self, what: str) -> None:
        self._last, self._what = time.monotonic(), what

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self.timeout_s / 4)):
            silent_s = time.monotonic() - self._last
            if silent_s > self.timeout_s:
                print(f"rank {self.rank}: no progress for {silent_s:.0f} s since {self._what}; stacks follow", file=sys.stderr)
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                sys.stderr.flush()
                os._exit(REQUEUE)
