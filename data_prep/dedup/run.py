"""Deduplication from end to end: within and across sources, in bounded memory, resumable, the same for any worker count.

1. scan: each unit of input is read once; digest and band keys of each document go to disk (``scan.py``).
2. exact: documents sorted by digest; only the first of equal ones goes on.
3. candidates: (band key, document) rows sorted band by band; documents that share a key are pairs (``candidates.py``).
4. verify: the units are read again for the candidates' grams; pairs of true Jaccard similarity of at least 0.8 stay.
5. join: pairs to groups (``unionfind.py``); each group keeps one document (``report.py``).

``deduplicate([SourceSpec(name="web", paths=("web/*.jsonl",))], data_dir="data")``
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.dedup import report
from data_prep.dedup.candidates import write_distinct, write_pairs
from data_prep.dedup.corpus import UNIT_BYTES, Unit, fingerprint, units
from data_prep.dedup.external import RowSorter
from data_prep.dedup.pool import each
from data_prep.dedup.scan import DIGESTS, LONG, SHORT, BandSet, ScanSettings, gram_unit, scan_unit
from data_prep.dedup.scanned import Scanned
from data_prep.dedup.simhash import BUCKET_DOCUMENTS, write_round
from data_prep.dedup.unionfind import UnionFind
from data_prep.dedup.verify import CHUNK_PAIRS, write_edges
from data_prep.errors import DataError
from data_prep.sources import SourceSpec

METHODS = ("minhash", "simhash", "exact")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the result.

    Attributes:
        method: minhash (candidates verified), simhash (the report's, not verified), or exact alone.
        similarity: Least Jaccard similarity of 5-grams at which two documents are duplicates (minhash).
        simhash_bits: Most bits in which two SimHashes may differ.
        simhash_rounds: How often the documents are dealt into buckets.
        simhash_bucket_documents: Documents a bucket.
        prefer: Sources whose documents are kept before others', most wanted first.
    """

    method: str = "minhash"
    similarity: float = 0.8
    simhash_bits: int = 3
    simhash_rounds: int = 3
    simhash_bucket_documents: int = BUCKET_DOCUMENTS
    prefer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise DataError(f"dedup: method {self.method!r} is not one of {', '.join(METHODS)}")
        if not 0.5 <= self.similarity <= 1:
            raise DataError(f"dedup: similarity is {self.similarity}, and must lie between 0.5 and 1 (bands find few below)")
        if not 0 <= self.simhash_bits <= 16:
            raise DataError(f"dedup: simhash_bits is {self.simhash_bits}, and must lie between 0 and 16")


@dataclass(frozen=True)
class _Job:
    """Where one deduplication works, and with how much."""

    units: list[Unit]
    settings: Settings
    folder: Path
    workers: int
    memory_bytes: int

    @property
    def scan_folders(self) -> list[Path]:
        return [self.folder / "scan" / f"unit_{number:05d}" for number in range(len(self.units))]

    @property
    def gram_folders(self) -> list[Path]:
        return [self.folder / "grams" / f"unit_{number:05d}" for number in range(len(self.units))]

    def scanned(self) -> Scanned:
        return Scanned(self.scan_folders, gram_folders=self.gram_folders)


def deduplicate(
    specs: Sequence[SourceSpec],
    *,
    data_dir: Path | str,
    settings: Settings | None = None,
    workers: int = 1,
    memory_bytes: int = 1 << 30,
    unit_bytes: int = UNIT_BYTES,
) -> dict[str, Any]:
    """Finds duplicates, writes each source's drop list and the report, and returns the report.

    Args:
        specs: The sources, in any order.
        data_dir: Drop lists go to ``<data_dir>/<source>/``, the work and the report to ``<data_dir>/dedup/<key>/``.
        settings: What counts as a duplicate.
        workers: Processes.
        memory_bytes: What sorting may hold, all workers together.
        unit_bytes: Input that a worker reads at a time.

    Raises:
        DataError: An input can't be read, or changed between the passes.
    """
    settings = settings or Settings()
    if unknown := set(settings.prefer) - {spec.name for spec in specs}:
        raise DataError(f"dedup: prefer names {', '.join(sorted(unknown))}; the sources are {', '.join(s.name for s in specs)}")
    all_units = units(specs, unit_bytes=unit_bytes)
    key = fingerprint(all_units, asdict(settings))
    job = _Job(all_units, settings, Path(data_dir) / "dedup" / key, max(1, workers), memory_bytes)
    job.folder.mkdir(parents=True, exist_ok=True)
    if (done := report.read(job.folder, data_dir, specs)) is not None:
        return done
    scanning = ScanSettings(simhash=settings.method == "simhash", similarity=settings.similarity)
    calls = [(unit, folder, scanning) for unit, folder in zip(all_units, job.scan_folders)]
    each(scan_unit, calls, workers=job.workers, label="dedup: scan", sizes=[unit.piece.size_bytes for unit in all_units])
    scanned = job.scanned()
    first = _first_of_equals(job, scanned)
    edges = {"minhash": _near, "simhash": _by_simhash, "exact": _none}[settings.method](job, scanned)
    union = UnionFind(job.folder / "parents.bin", scanned.num_documents)
    for part in edges:
        union.join(part[:, 0], part[:, 1])
    outcome = report.write(
        job.folder, data_dir, specs, scanned=scanned, units=all_units, first=first, union=union, settings=asdict(settings)
    )
    del union, first, scanned
    for name in ("scan", "grams", "bands", "edges", "sort"):
        shutil.rmtree(job.folder / name, ignore_errors=True)
    for name in ("pairs.bin", "parents.bin", "first.bin", "kept.bin", "best.bin", "chosen.bin", "sizes.bin"):
        (job.folder / name).unlink(missing_ok=True)
    return outcome


def _first_of_equals(job: _Job, scanned: Scanned) -> np.ndarray:
    """For each document the number of the one to stand for all with its text: of the most wanted source, then the least."""
    path = job.folder / "first.bin"
    first = np.memmap(path, dtype=np.uint64, mode="w+", shape=(max(scanned.num_documents, 1),))
    ranks = source_ranks(job.units, job.settings.prefer)
    rows = RowSorter(job.folder / "sort" / "exact", columns=4, memory_bytes=job.memory_bytes)
    for unit, base in enumerate(scanned.bases[:-1].tolist()):
        digests = scanned.column(unit, DIGESTS)
        rank = np.full(len(digests), ranks[unit], dtype=np.uint64)
        numbers = np.arange(base, base + len(digests), dtype=np.uint64)
        rows.add(np.column_stack((digests, rank, numbers)))
    last = None  # digest and number of the group that the chunk before ended in
    for chunk in rows.chunks():
        if not len(chunk):
            continue
        begins = np.ones(len(chunk), dtype=bool)
        begins[1:] = (chunk[1:, :2] != chunk[:-1, :2]).any(axis=1)
        leaders = chunk[np.maximum.accumulate(np.where(begins, np.arange(len(chunk)), 0)), 3]
        if last is not None:
            leaders[(chunk[:, :2] == last[:2]).all(axis=1)] = last[3]
        first[chunk[:, 3]] = leaders
        last = chunk[-1].copy()
        last[3] = leaders[-1]
    return first


def source_ranks(all_units: Sequence[Unit], prefer: Sequence[str]) -> list[int]:
    """Each unit's rank: its source's place in ``prefer``, or after all of them."""
    return [prefer.index(unit.spec.name) if unit.spec.name in prefer else len(prefer) for unit in all_units]


def _none(job: _Job, scanned: Scanned) -> Iterable[np.ndarray]:
    return ()


def _near(job: _Job, scanned: Scanned) -> Iterable[np.ndarray]:
    """Verified pairs of the MinHash way."""
    bands = [(band_set, band) for band_set in (LONG, SHORT) for band in range(len(band_set.keys))]
    paths = [job.folder / "bands" / f"{band_set.name}_{band:02d}.bin" for band_set, band in bands]
    share = job.memory_bytes // min(job.workers, len(bands))
    calls = [(job, band_set, band, path, share) for (band_set, band), path in zip(bands, paths)]
    each(_band, calls, workers=job.workers, label="dedup: candidates")
    pairs = _merged(job, paths)
    wanted = np.zeros(max(scanned.num_documents, 1), dtype=bool)
    num_pairs = pairs.stat().st_size // 16
    for chunk in range(-(-num_pairs // CHUNK_PAIRS)):
        wanted[np.fromfile(pairs, dtype=np.uint64, count=2 * CHUNK_PAIRS, offset=16 * chunk * CHUNK_PAIRS)] = True
    slices = [wanted[start:end] for start, end in zip(scanned.bases[:-1], scanned.bases[1:])]
    grams = [call for call in zip(job.units, job.gram_folders, slices) if call[2].any()]
    each(gram_unit, grams, workers=job.workers, label="dedup: grams", sizes=[unit.piece.size_bytes for unit, *_ in grams])
    edges = [job.folder / "edges" / f"chunk_{chunk:05d}.bin" for chunk in range(-(-num_pairs // CHUNK_PAIRS))]
    each(_verify, [(job, pairs, chunk, path) for chunk, path in enumerate(edges)], workers=job.workers, label="dedup: verify")
    return (np.fromfile(path, dtype=np.uint64).reshape(-1, 2) for path in edges)


def _band(job: _Job, band_set: BandSet, band: int, path: Path, memory_bytes: int) -> None:
    first = np.memmap(job.folder / "first.bin", dtype=np.uint64, mode="r")
    scratch = job.folder / "sort" / path.stem
    write_pairs(job.scanned(), band_set, band, first=first, scratch=scratch, memory_bytes=memory_bytes, path=path)


def _verify(job: _Job, pairs: Path, chunk: int, path: Path) -> None:
    write_edges(job.scanned(), pairs, chunk, similarity=job.settings.similarity, path=path)


def _merged(job: _Job, paths: Sequence[Path]) -> Path:
    """All bands' pairs, each once."""
    merged = job.folder / "pairs.bin"
    if not merged.exists():
        sorter = RowSorter(job.folder / "sort" / "pairs", columns=2, memory_bytes=job.memory_bytes)
        for path in paths:
            for offset in range(0, path.stat().st_size, 16 << 20):
                sorter.add(np.fromfile(path, dtype=np.uint64, count=2 << 20, offset=offset).reshape(-1, 2))
        write_distinct(sorter, merged)
    return merged


def _by_simhash(job: _Job, scanned: Scanned) -> Iterable[np.ndarray]:
    paths = [job.folder / "bands" / f"round_{number:02d}.bin" for number in range(job.settings.simhash_rounds)]
    share = job.memory_bytes // min(job.workers, max(len(paths), 1))
    calls = [(job, number, path, share) for number, path in enumerate(paths)]
    each(_round, calls, workers=job.workers, label="dedup: SimHash rounds")
    for path in paths:
        for offset in range(0, path.stat().st_size, 16 << 20):
            yield np.fromfile(path, dtype=np.uint64, count=2 << 20, offset=offset).reshape(-1, 2)


def _round(job: _Job, number: int, path: Path, memory_bytes: int) -> None:
    first = np.memmap(job.folder / "first.bin", dtype=np.uint64, mode="r")
    write_round(
        job.scanned(), number, bits=job.settings.simhash_bits, first=first, scratch=job.folder / "sort" / path.stem,
        memory_bytes=memory_bytes, path=path, bucket_documents=job.settings.simhash_bucket_documents,
    )  # fmt: skip
