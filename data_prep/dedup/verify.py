"""Candidates to duplicates: the true Jaccard similarity of the two sets of grams."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.atomic import replacing
from data_prep.dedup.scanned import Scanned

CHUNK_PAIRS = 1 << 20  # verified by one worker at a time


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """|A ∩ B| / |A ∪ B| of two ascending arrays of distinct values; 0 where both are empty."""
    both = np.concatenate((left, right))
    both.sort(kind="stable")  # merges the two runs
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared) if len(both) else 0.0


def write_edges(scanned: Scanned, pairs: Path, chunk: int, *, similarity: float, path: Path) -> None:
    """Writes the pairs of one chunk that are similar enough, unless they are there: rows (left, right), uint64."""
    if path.exists():
        return
    rows = np.fromfile(pairs, dtype=np.uint64, count=2 * CHUNK_PAIRS, offset=16 * chunk * CHUNK_PAIRS).reshape(-1, 2)
    keep = np.zeros(len(rows), dtype=bool)
    last, grams = -1, np.zeros(0, np.uint64)
    for index, (left, right) in enumerate(rows.tolist()):
        if left != last:  # pairs are sorted
            last, grams = left, scanned.grams(left)
        other = scanned.grams(right)
        shorter, longer = sorted((len(grams), len(other)))
        keep[index] = shorter >= similarity * longer and jaccard(grams, other) >= similarity
    with replacing(path) as file:
        file.write(rows[keep].tobytes())
