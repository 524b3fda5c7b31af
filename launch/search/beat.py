"""Heartbeats across machines that share nothing but a folder: a counter in a file, judged by the reader's own clock."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from data_prep.atomic import write_json
from launch.search.folder import read_or_none

EVERY_S = 1.0
PATIENCE_S = 30.0  # NFS may show a file's old content for as long
_OPENING_S = 3 * EVERY_S


@contextmanager
def beating(path: Path, **facts: Any) -> Iterator[None]:
    """Counts in this file while the block runs; removes it at an orderly end."""
    done = threading.Event()

    def count() -> None:
        number = 0
        while True:
            number += 1
            write_json(path, {"beat": number, **facts})
            if done.wait(EVERY_S):
                return

    write_json(path, {"beat": 0, **facts})
    thread = threading.Thread(target=count, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        path.unlink(missing_ok=True)


class Heart(StrEnum):
    """A heart as a listener knows it."""

    UNKNOWN = "unknown"
    """Seen for the first time a moment ago: it may be of the living or of the dead."""
    ALIVE = "alive"
    LOST = "lost"


class Listener:
    """Which hearts beat, as seen from here."""

    def __init__(self, *, patience_s: float = PATIENCE_S) -> None:
        self.patience_s = patience_s
        self._seen: dict[Path, tuple[Any, float, Heart]] = {}

    def hear(self, path: Path) -> Heart:
        """Alive once a change has been seen; lost where there is no file, or no change for as long as the patience."""
        now, content = time.monotonic(), read_or_none(path)
        if content is None:
            self._seen.pop(path, None)
            return Heart.LOST
        if path not in self._seen:
            self._seen[path] = (content, now, Heart.UNKNOWN)
        elif self._seen[path][0] != content:
            self._seen[path] = (content, now, Heart.ALIVE)
        _, changed, heart = self._seen[path]
        return heart if now - changed < self.patience_s else Heart.LOST


def beats_now(path: Path) -> bool:
    """Watches a file for a few beats, for whoever finds it without having seen it before."""
    first = read_or_none(path)
    if first is None:
        return False
    until = time.monotonic() + _OPENING_S
    while time.monotonic() < until:
        time.sleep(EVERY_S / 10)
        if (now := read_or_none(path)) != first:
            return now is not None
    return False
