"""SimHash in rounds with buckets of a million, as the Xmodel-2 report has it: an option, for comparison.

Each round deals all documents into buckets by a keyed hash of their contents and finds the pairs of a bucket whose 64-bit
SimHashes differ in few bits. Nothing is verified. Two documents that no round puts into one bucket are never compared: with N
documents and R rounds a pair is missed with probability (1 - bucket/N)^R before SimHash itself misses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.dedup.candidates import write_distinct
from data_prep.dedup.external import RowSorter
from data_prep.dedup.scan import DIGESTS, SIMHASHES
from data_prep.dedup.scanned import Scanned
from data_prep.dedup.shingles import mixed

BUCKET_DOCUMENTS = 1_000_000


def write_round(
    scanned: Scanned, number: int, *, bits: int, first: np.ndarray, scratch: Path, memory_bytes: int, path: Path,
    bucket_documents: int = BUCKET_DOCUMENTS,
) -> None:  # fmt: skip
    """Writes the pairs of one round, unless they are there: rows (left, right), uint64, sorted, distinct."""
    if path.exists():
        return
    rows = RowSorter(scratch / "rows", columns=3, memory_bytes=memory_bytes // 2)
    for unit, base in enumerate(scanned.bases[:-1].tolist()):
        hashes = np.asarray(scanned.column(unit, SIMHASHES))
        numbers = np.arange(base, base + len(hashes), dtype=np.uint64)
        shuffle = mixed(scanned.column(unit, DIGESTS)[:, 0] ^ np.uint64(0x9E3779B97F4A7C15 * (number + 1) % 2**64))
        alone = (first[numbers] == numbers) & (hashes != 0)
        rows.add(np.stack((shuffle, hashes, numbers), axis=1)[alone])
    pairs = RowSorter(scratch / "pairs", columns=2, memory_bytes=memory_bytes // 2)
    for bucket in _buckets(rows, bucket_documents):
        for found in close_pairs(bucket[:, 1], bits=bits):
            members = bucket[:, 2][found]
            pairs.add(np.sort(members, axis=1))
    write_distinct(pairs, path)


def _buckets(rows: RowSorter, size: int) -> Iterator[np.ndarray]:
    """Runs of ``size`` rows."""
    held = np.zeros((0, 3), dtype=np.uint64)
    for chunk in rows.chunks():
        held = np.concatenate((held, chunk))
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if len(held):
        yield held


def close_pairs(hashes: np.ndarray, *, bits: int) -> Iterator[np.ndarray]:
    """Positions of all pairs that differ in at most ``bits`` bits, int64 [n, 2].

    Cut into bits + 1 blocks, two such hashes agree in a block (Manku, Jain, Das Sarma 2007).
    """
    edges = np.linspace(0, 64, bits + 2).astype(int)
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist()):
        block = (hashes >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
        order = np.argsort(block, kind="stable")
        block, values = block[order], hashes[order]
        left = np.arange(len(order))
        for step in range(1, len(order)):
            left = left[left + step < len(order)]
            left = left[block[left] == block[left + step]]  # groups that are still longer than the step
            if not len(left):
                break
            near = np.bitwise_count(values[left] ^ values[left + step]) <= bits
            if near.any():
                yield np.stack((order[left[near]], order[left[near] + step]), axis=1)
