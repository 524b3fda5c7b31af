"""Sorting more rows than fit in memory: sorted runs on disk, then one merge. Rows are of uint64, ordered by all columns.

The order is total, so the result is the same for any memory: only the sizes of the chunks that come out differ.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

MAX_GROUP = 1 << 20  # rows handled as one; a longer group is cut there, at the same places whatever the memory
_COPIES = 4  # rows held, sorted and written at one time, in multiples of a run


def sort_rows(rows: np.ndarray) -> np.ndarray:
    """Rows in ascending order, the first column first. [n, columns]"""
    rows = rows[np.argsort(rows[:, 0])]
    same = rows[1:, 0] == rows[:-1, 0]
    if same.any():  # few rows tie in a hash: only these are compared by the other columns
        tied = np.zeros(len(rows), dtype=bool)
        tied[1:] |= same
        tied[:-1] |= same
        part = rows[tied]
        rows[tied] = part[np.lexsort(part.T[::-1])]
    return rows


class RowSorter:
    """Takes rows in any order and gives them back sorted, within ``memory_bytes``."""

    def __init__(self, folder: Path, *, columns: int, memory_bytes: int) -> None:
        """Empties the folder: a sort that was cut off begins again."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.columns = folder, columns
        self.max_rows = max(1024, memory_bytes // (8 * columns * _COPIES))
        self._held: list[np.ndarray] = []
        self._num_held = 0
        self._runs: list[Path] = []

    def add(self, rows: np.ndarray) -> None:
        """Adds rows, uint64. [n, columns]"""
        while len(rows):
            part, rows = rows[: self.max_rows - self._num_held], rows[self.max_rows - self._num_held :]
            self._held.append(part)
            self._num_held += len(part)
            if self._num_held == self.max_rows:
                self._spill()

    def _take(self) -> np.ndarray:
        rows = np.concatenate(self._held) if self._held else np.zeros((0, self.columns), dtype=np.uint64)
        self._held, self._num_held = [], 0
        return sort_rows(rows)

    def _spill(self) -> None:
        path = self.folder / f"run_{len(self._runs):05d}.bin"
        self._take().tofile(path)
        self._runs.append(path)

    def chunks(self) -> Iterator[np.ndarray]:
        """All rows in order, in chunks; the runs are deleted at the end."""
        if not self._runs:
            yield self._take()
        else:
            if self._num_held:
                self._spill()
            yield from self._merge()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _merge(self) -> Iterator[np.ndarray]:
        runs = [np.memmap(path, dtype=np.uint64, mode="r").reshape(-1, self.columns) for path in self._runs]
        step = max(64, self.max_rows // len(runs))
        positions = [0] * len(runs)
        while any(position < len(run) for position, run in zip(positions, runs)):
            heads = [np.array(run[position : position + step]) for position, run in zip(positions, runs)]
            more = [head[-1] for head, position, run in zip(heads, positions, runs) if position + len(head) < len(run)]
            limit = min((tuple(row.tolist()) for row in more), default=None)  # beyond it, unread rows could come first
            taken = []
            for index, head in enumerate(heads):
                count = len(head) if limit is None else _rank(head, limit)
                positions[index] += count
                taken.append(head[:count])
            yield sort_rows(np.concatenate(taken))


def _rank(rows: np.ndarray, limit: tuple[int, ...]) -> int:
    """How many of the sorted rows are at most ``limit``."""
    low, high = 0, len(rows)
    for column, value in enumerate(limit):
        part = rows[low:high, column]
        low, high = low + int(np.searchsorted(part, value, "left")), low + int(np.searchsorted(part, value, "right"))
    return high


def groups(chunks: Iterable[np.ndarray], *, max_group: int = MAX_GROUP) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Whole groups of rows that agree in the first column.

    Yields:
        Rows, and where each group begins and the last ends (int64); a group of more than ``max_group`` comes in parts.
    """
    rest: np.ndarray | None = None
    for chunk in chunks:
        rows = chunk if rest is None or not len(rest) else np.concatenate((rest, chunk))
        if not len(rows):
            continue
        last = int(np.searchsorted(rows[:, 0], rows[-1, 0], "left"))  # the last group may go on in the next chunk
        last += (len(rows) - last) // max_group * max_group
        rest = rows[last:].copy()
        if last:
            yield rows[:last], _bounds(rows[:last, 0], max_group)
    if rest is not None and len(rest):
        yield rest, _bounds(rest[:, 0], max_group)


def _bounds(keys: np.ndarray, max_group: int) -> np.ndarray:
    bounds = np.concatenate(([0], np.flatnonzero(keys[1:] != keys[:-1]) + 1, [len(keys)]))
    large = np.flatnonzero(np.diff(bounds) > max_group)
    cuts = [np.arange(bounds[index] + max_group, bounds[index + 1], max_group) for index in large]
    return np.sort(np.concatenate((bounds, *cuts))) if cuts else bounds
