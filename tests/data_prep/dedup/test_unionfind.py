"""Joining by chunks of edges against scipy's connected components."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from data_prep.dedup.unionfind import UnionFind


def components(count: int, edges: np.ndarray) -> np.ndarray:
    """The least member of each number's component."""
    _, label = connected_components(coo_matrix((np.ones(len(edges)), edges.T), (count, count)), directed=False)
    least = np.full(count, count)
    np.minimum.at(least, label, np.arange(count))
    return least[label]


@pytest.mark.parametrize("num_edges", [0, 100, 900, 5000])
@pytest.mark.parametrize("chunk", [1, 13, 10**6])
def test_roots_are_the_least_members(tmp_path: Path, num_edges: int, chunk: int) -> None:
    rng = np.random.default_rng(num_edges)
    edges = rng.integers(0, 2000, (num_edges, 2)).astype(np.uint64)
    union = UnionFind(tmp_path / "parents", 2000)
    for start in range(0, num_edges, chunk):
        union.join(edges[start : start + chunk, 0], edges[start : start + chunk, 1])
    assert (union.roots(np.arange(2000)) == components(2000, edges.astype(np.int64))).all()


@pytest.mark.parametrize("order", [1, -1])
def test_a_long_chain(tmp_path: Path, order: int) -> None:
    numbers = np.arange(10_000, dtype=np.uint64)[::order]
    union = UnionFind(tmp_path / "parents", 10_000)
    union.join(numbers[:-1], numbers[1:])
    assert not union.roots(numbers).any()


def test_no_documents(tmp_path: Path) -> None:
    union = UnionFind(tmp_path / "parents", 0)
    union.join(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
