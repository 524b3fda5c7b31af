"""Sorting beyond memory, and groups: the same whatever the memory."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from data_prep.dedup.external import RowSorter, groups, sort_rows


def rows_of(count: int, columns: int, *, distinct: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, distinct, (count, columns)).astype(np.uint64)


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("distinct", [1, 3, 1000, 2**62])
@pytest.mark.parametrize("columns", [1, 2, 4])
def test_sort_rows(columns: int, distinct: int) -> None:
    rows = rows_of(5000, columns, distinct=distinct)
    assert (sort_rows(rows.copy()) == in_order(rows)).all()


@pytest.mark.parametrize("memory_rows", [1024, 3000, 10**6])
@pytest.mark.parametrize("distinct", [1, 5, 10**6])
def test_any_memory_gives_the_same_order(tmp_path: Path, memory_rows: int, distinct: int) -> None:
    rows = rows_of(20_000, 2, distinct=distinct)
    sorter = RowSorter(tmp_path / "sort", columns=2, memory_bytes=memory_rows * 64)
    for part in np.array_split(rows, 7):
        sorter.add(part)
    chunks = list(sorter.chunks())
    assert (np.concatenate(chunks) == in_order(rows)).all()
    assert max(map(len, chunks)) <= max(memory_rows, 20_000 if memory_rows > 20_000 else 0) + 64 * 20
    assert not (tmp_path / "sort").exists()


def test_an_empty_sort(tmp_path: Path) -> None:
    assert [len(chunk) for chunk in RowSorter(tmp_path / "s", columns=3, memory_bytes=1).chunks()] == [0]


def test_a_sort_that_was_cut_off_begins_anew(tmp_path: Path) -> None:
    first = RowSorter(tmp_path / "sort", columns=1, memory_bytes=1)
    first.add(rows_of(5000, 1, distinct=9))
    again = RowSorter(tmp_path / "sort", columns=1, memory_bytes=1)
    again.add(np.array([[3], [1]], dtype=np.uint64))
    assert np.concatenate(list(again.chunks())).ravel().tolist() == [1, 3]


def parts(rows: np.ndarray, chunk: int, max_group: int) -> list[list[int]]:
    """All groups' second columns, read in chunks of a size."""
    found = []
    for block, bounds in groups((rows[at : at + chunk] for at in range(0, len(rows), chunk)), max_group=max_group):
        assert bounds[0] == 0
        assert bounds[-1] == len(block)
        for start, end in itertools.pairwise(bounds):
            assert len(set(block[start:end, 0].tolist())) == 1
            found.append(block[start:end, 1].tolist())
    return found


@pytest.mark.parametrize("chunk", [1, 2, 7, 50, 1000])
def test_groups_are_whole_whatever_the_chunks(chunk: int) -> None:
    rows = in_order(rows_of(500, 2, distinct=60))
    whole = parts(rows, len(rows), 10**6)
    assert len(whole) == len(np.unique(rows[:, 0]))
    assert parts(rows, chunk, 10**6) == whole


@pytest.mark.parametrize("chunk", [1, 3, 10, 11, 64, 1000])
def test_long_groups_are_cut_at_the_same_places(chunk: int) -> None:
    rows = in_order(rows_of(600, 2, distinct=8))
    cut = parts(rows, chunk, 10)
    assert cut == parts(rows, 600, 10)
    assert max(map(len, cut)) == 10
    assert sum(map(len, cut)) == 600
