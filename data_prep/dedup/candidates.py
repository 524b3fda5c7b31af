"""Which pairs to verify: documents that share a band. A pair is found or not by the contents of its bucket alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.atomic import replacing
from data_prep.dedup.external import RowSorter, groups
from data_prep.dedup.scan import BandSet
from data_prep.dedup.scanned import Scanned

ALL_PAIRS = 32  # documents in a bucket up to which all of its pairs are taken
NUM_HUBS = 8  # in larger buckets: pairs with the documents of least digest,
WINDOW = 4  # and with as many followers in the order of the next band's key


def write_pairs(
    scanned: Scanned, band_set: BandSet, band: int, *, first: np.ndarray, scratch: Path, memory_bytes: int, path: Path
) -> None:
    """Writes the candidate pairs (lesser number first, sorted, distinct) of one band, unless they are there.

    Args:
        scanned: The scanned units.
        band_set: Long or short bands.
        band: Which band.
        first: For each document the first one with the same text; only these meet.
        scratch: A folder for sorting.
        memory_bytes: What sorting may take.
        path: The file of rows (left, right), uint64.
    """
    if path.exists():
        return
    rows = RowSorter(scratch / "rows", columns=2, memory_bytes=memory_bytes // 2)
    for part in scanned.band_rows(band_set, band):
        numbers = part[:, 1]
        rows.add(part[first[numbers] == numbers])
    pairs = RowSorter(scratch / "pairs", columns=2, memory_bytes=memory_bytes // 2)
    for part, bounds in groups(rows.chunks()):
        for found in _bucket_pairs(part[:, 1], bounds, scanned, band_set, band):
            pairs.add(found)
    write_distinct(pairs, path)


def write_distinct(pairs: RowSorter, path: Path) -> None:
    """Writes sorted rows without repeats, whole or not at all."""
    last: np.ndarray | None = None
    with replacing(path) as file:
        for chunk in pairs.chunks():
            if len(chunk):
                fresh = np.ones(len(chunk), dtype=bool)
                fresh[1:] = (chunk[1:] != chunk[:-1]).any(axis=1)
                fresh[0] = last is None or bool((chunk[0] != last).any())
                last = chunk[-1].copy()
                file.write(np.ascontiguousarray(chunk[fresh]).tobytes())


def _bucket_pairs(
    numbers: np.ndarray, bounds: np.ndarray, scanned: Scanned, band_set: BandSet, band: int
) -> Iterator[np.ndarray]:
    """Pairs of the documents of each bucket, [n, 2]: buckets of one size are done together."""
    sizes = np.diff(bounds)
    for size in np.unique(sizes[sizes > 1]).tolist():
        starts = bounds[:-1][sizes == size]
        if size <= ALL_PAIRS:
            left, right = np.triu_indices(size, 1)
            for some in np.array_split(starts, max(1, len(starts) * len(left) >> 20)):
                members = numbers[some[:, None] + np.arange(size)]  # [buckets, size]
                yield _ordered(members[:, left].ravel(), members[:, right].ravel())
        else:
            for start in starts.tolist():
                yield from _large_bucket(numbers[start : start + size], scanned, band_set, band)


def _large_bucket(members: np.ndarray, scanned: Scanned, band_set: BandSet, band: int) -> Iterator[np.ndarray]:
    """A bucket of many is one text repeated with small changes, or a template: hubs find the first, neighbours the second."""
    members = members[scanned.digest_order(members)]
    for hub in members[:NUM_HUBS]:
        others = members[members != hub]
        yield _ordered(np.full(len(others), hub), others)
    following = scanned.band_keys(band_set, (band + 1) % len(band_set.keys), members)
    members = members[np.argsort(following, kind="stable")]
    for step in range(1, WINDOW + 1):
        yield _ordered(members[:-step], members[step:])


def _ordered(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack((np.minimum(left, right), np.maximum(left, right)), axis=1)
