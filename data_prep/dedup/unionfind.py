"""Which documents belong together: a parent array in a file, joined a chunk of edges at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class UnionFind:
    """Sets of numbers 0 … n-1; a set's root is its least member. 8 bytes a number, mapped from a file."""

    def __init__(self, path: Path, count: int) -> None:
        """A fresh file: joining is quick, and a file that was cut off can't be trusted."""
        self.parents = np.memmap(path, dtype=np.uint64, mode="w+", shape=(max(count, 1),))
        for start in range(0, count, 1 << 20):
            end = min(count, start + (1 << 20))
            self.parents[start:end] = np.arange(start, end, dtype=np.uint64)

    def roots(self, numbers: np.ndarray) -> np.ndarray:
        """The root of each number; paths are shortened on the way. uint64 [n]"""
        found = np.array(self.parents[numbers])
        while True:
            above = self.parents[found]
            if (above == found).all():
                break
            found = np.array(above)
        self.parents[numbers] = found
        return found

    def join(self, left: np.ndarray, right: np.ndarray) -> None:
        """Joins the sets of left[i] and right[i] for every i; the outcome doesn't depend on the order of the pairs."""
        while len(left):
            left, right = self.roots(left), self.roots(right)
            apart = left != right
            left, right = left[apart], right[apart]
            np.minimum.at(self.parents, np.maximum(left, right), np.minimum(left, right))
