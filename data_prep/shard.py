"""The unit of work: one shard, written under temporary names, flushed, renamed, and only then called done."""

from __future__ import annotations

import errno
import itertools
import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from data_prep.atomic import sync_folder, write_json
from data_prep.dedup.drops import DropList
from data_prep.encode import Encoded, PlainEncoder, make_encoder
from data_prep.errors import DataError, RejectLimitError
from data_prep.indexed import IndexedWriter
from data_prep.manifest import ShardEntry
from data_prep.plan import SPLITS, Plan, shard_name
from data_prep.sources import Block, Reject, blocks
from data_prep.sources.block import heldout_limit
from data_prep.tokenizer import load_tokenizer

DROPPED = 2  # beside held out (1) or not (0)
HOPELESS_REJECTS = 1_000  # a shard above this and above the limit stops at once; the limit itself is the source's


@dataclass
class Counts:
    """What became of the records: read = written + rejected + dropped, always."""

    num_read: int = 0
    num_rejected: int = 0
    num_dropped: int = 0  # named by a drop list
    rejects: dict[str, dict[str, object]] = field(default_factory=dict)  # kind -> count and first

    def reject(self, item: Reject) -> None:
        self.num_read += 1
        self.num_rejected += 1
        seen = self.rejects.setdefault(item.kind, {"count": 0, "first": asdict(item)})
        seen["count"] = int(seen["count"]) + 1  # type: ignore[call-overload]


class _Hashed:
    """A binary file whose bytes are digested as they are written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.size_bytes = file, xxhash.xxh3_128(), 0

    def write(self, data: memoryview | bytes) -> None:
        self.digest.update(data)
        self.size_bytes += memoryview(data).nbytes
        self.file.write(data)


class _SplitWriter:
    """The files of one split of one shard, under temporary names until ``publish``."""

    def __init__(self, folder: Path, name: str, *, dtype: np.dtype, stack: ExitStack) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name, self.dtype, self.stack = folder, name, dtype, stack
        self.text_bytes = 0
        for stale in folder.glob(f".{name}.*.tmp"):  # of a worker that was killed
            stale.unlink(missing_ok=True)
        self.tokens = self._open("bin")
        self.lengths = self._open("lengths")
        self.mask: _Hashed | None = None
        self.writer = IndexedWriter(self.tokens, self.lengths.file, dtype=dtype)  # type: ignore[arg-type]

    def _temporary(self, part: str) -> Path:
        return self.folder / f".{self.name}.{part}.{os.getpid()}.tmp"

    def _open(self, part: str) -> _Hashed:
        path = self._temporary(part)
        file = self.stack.enter_context(open(path, "w+b", buffering=1 << 20))  # noqa: SIM115
        self.stack.callback(path.unlink, missing_ok=True)  # runs after the close; a published file has another name
        return _Hashed(file)

    def append(self, ids: np.ndarray, sizes: np.ndarray, mask: np.ndarray | None, text_bytes: int) -> None:
        if mask is not None and self.mask is None:
            self.mask = self._open("mask.bin")
            self.mask.write(b"\x01" * self.writer.num_tokens)
        if self.mask is not None:
            self.mask.write((mask if mask is not None else np.ones(len(ids), np.uint8)).data)
        self.writer.append(ids, sizes)
        self.text_bytes += text_bytes

    def finish(self, *, masked: bool) -> ShardEntry:
        """Writes the index and flushes everything to disk."""
        index = self._open("idx")
        self.writer.write_index(index)  # type: ignore[arg-type]
        if masked and self.mask is None:
            self.mask = self._open("mask.bin")
            self.mask.write(b"\x01" * self.writer.num_tokens)
        self.parts = {"bin": self.tokens, "idx": index} | ({"mask.bin": self.mask} if self.mask else {})
        for part in self.parts.values():
            part.file.flush()
            os.fsync(part.file.fileno())
        return ShardEntry(
            name=self.name,
            num_documents=self.writer.num_documents,
            num_tokens=self.writer.num_tokens,
            text_bytes=self.text_bytes,
            bin_bytes=self.tokens.size_bytes,
            bin_xxh128=self.tokens.digest.hexdigest(),
            idx_bytes=index.size_bytes,
            idx_xxh128=index.digest.hexdigest(),
            mask_bytes=self.mask.size_bytes if self.mask else 0,
            mask_xxh128=self.mask.digest.hexdigest() if self.mask else "",
        )

    def publish(self) -> None:
        """Renames the parts to their names; a part without documents has no files (an empty one can't be mapped)."""
        for part in self.parts:
            if self.writer.num_documents:
                os.replace(self._temporary(part), self.folder / f"{self.name}.{part}")
        sync_folder(self.folder)


def is_done(plan: Plan, shard: int) -> bool:
    """Whether both parts of a shard are whole, by their done files and the lengths of what they name."""
    for split in SPLITS:
        entry = read_done(plan, shard, split)
        if entry is None:
            return False
        for suffix, size in (("bin", entry.bin_bytes), ("idx", entry.idx_bytes), ("mask.bin", entry.mask_bytes)):
            path = plan.split_dir(split) / f"{entry.name}.{suffix}"
            if entry.num_documents and size and (not path.exists() or path.stat().st_size != size):
                return False
    return True


def read_done(plan: Plan, shard: int, split: str) -> ShardEntry | None:
    """The entry in a done file; None if there is none."""
    try:
        return ShardEntry(**json.loads(plan.done_path(shard, split).read_bytes())["entry"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def read_counts(plan: Plan, shard: int) -> Counts:
    """The counts of a shard that is done."""
    return Counts(**json.loads(plan.done_path(shard, SPLITS[0]).read_bytes())["counts"])


def read_encoder(plan: Plan, shard: int) -> str:
    """Which encoder made a shard that is done, and why not the fast one."""
    return json.loads(plan.done_path(shard, SPLITS[0]).read_bytes()).get("encoder", "")


def write_shard(plan: Plan, shard: int, *, encoder: PlainEncoder | None = None, advance: Callable[[int], None]) -> None:
    """Reads, encodes and writes one shard, and marks it done.

    Args:
        plan: The source's plan.
        shard: Which one.
        encoder: What turns blocks into tokens; made here if None.
        advance: Called with the bytes of text done since the last call.

    Raises:
        DataError: The input cannot be read, too much of it is bad, or the disk is full. Nothing half-written stays.
    """
    encoder = encoder or make_encoder(load_tokenizer(plan.tokenizer_path))
    started_s = time.monotonic()
    try:
        with ExitStack() as stack:
            _write(plan, shard, encoder, stack, advance, started_s)
    except OSError as error:
        what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
        raise DataError(f"{plan.folder}/*/{shard_name(shard)}: cannot be written: {what}. Nothing of it is kept") from error


def _write(
    plan: Plan, shard: int, encoder: PlainEncoder, stack: ExitStack, advance: Callable[[int], None], started_s: float
) -> None:
    name, dtype, masked = shard_name(shard), encoder.tokenizer.dtype, plan.spec.loss_on == "responses"
    writers = {split: _SplitWriter(plan.split_dir(split), name, dtype=dtype, stack=stack) for split in SPLITS}
    counts, rejects = Counts(), _RejectsFile(plan.rejects_path(shard), stack)
    limit = np.uint64(min(heldout_limit(plan.spec.heldout_frac), 2**64 - 1))
    drops = DropList.load(plan.folder.parents[1], plan.spec.name)
    if drops.digest != plan.drops_sha256:
        raise DataError(f"source {plan.spec.name}: its drop lists changed during the work; run `windtunnel tokenize` again")
    for piece in plan.shards[shard]:
        for block in blocks(plan.spec, piece, fast=encoder.fast, drops=drops):
            for item in block.rejects:
                counts.reject(item)
                rejects.write(item)
            _stop_if_hopeless(plan, shard, counts)
            if block.num_documents:
                counts.num_read += block.num_documents
                counts.num_dropped += 0 if block.dropped is None else int(block.dropped.sum())
                _append(writers, block, encoder.encode(block), block.keys < limit)
            advance(block.size_bytes)
    entries = {split: writers[split].finish(masked=masked) for split in SPLITS}
    written = sum(entry.num_documents for entry in entries.values())
    if counts.num_read != written + counts.num_rejected + counts.num_dropped:
        raise DataError(f"{plan.folder}: {written} documents written, but {counts}: a bug")
    rejects.publish()
    for split in SPLITS:
        writers[split].publish()
    seconds = round(time.monotonic() - started_s, 3)
    for split in SPLITS:
        done = {"entry": asdict(entries[split]), "counts": asdict(counts), "encoder": encoder.description}
        write_json(plan.done_path(shard, split), done | {"seconds": seconds})


def _append(writers: dict[str, _SplitWriter], block: Block, encoded: Encoded, heldout: np.ndarray) -> None:
    """Deals a block's documents to the two splits, in runs (held-out and dropped ones are few)."""
    ends = np.cumsum(encoded.sizes)
    text_bytes = block.text_bytes
    side = heldout.astype(np.int8)
    if block.dropped is not None:
        side[block.dropped] = DROPPED
    changes = np.flatnonzero(side[1:] != side[:-1]) + 1
    bounds = [0, *changes.tolist(), len(side)]
    for start, end in itertools.pairwise(bounds):
        if side[start] == DROPPED:
            continue
        tokens = slice(int(ends[start - 1]) if start else 0, int(ends[end - 1]))
        mask = None if encoded.mask is None else encoded.mask[tokens]
        split = "heldout" if side[start] else "train"
        writers[split].append(encoded.ids[tokens], encoded.sizes[start:end], mask, int(text_bytes[start:end].sum()))


class _RejectsFile:
    """Rejected records as JSON lines; there is no file where there are none."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path, self.stack = path, stack
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.file: BinaryIO | None = None
        path.unlink(missing_ok=True)

    def write(self, item: Reject) -> None:
        if self.file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for stale in self.path.parent.glob(f".{self.path.name}.*.tmp"):
                stale.unlink(missing_ok=True)
            self.file = self.stack.enter_context(open(self.temporary, "wb"))  # noqa: SIM115
            self.stack.callback(self.temporary.unlink, missing_ok=True)
        self.file.write(json.dumps(asdict(item), ensure_ascii=True).encode() + b"\n")

    def publish(self) -> None:
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())
            os.replace(self.temporary, self.path)


def _stop_if_hopeless(plan: Plan, shard: int, counts: Counts) -> None:
    limit = max(HOPELESS_REJECTS, plan.spec.rejects_max_frac * counts.num_read)
    if counts.num_rejected > limit and counts.num_rejected > 2 * plan.spec.rejects_max_frac * counts.num_read:
        raise RejectLimitError(reject_summary(plan, counts, f"{shard_name(shard)} was stopped"))


def reject_summary(plan: Plan, counts: Counts, end: str) -> str:
    """One message: how many, what kinds, the first of each with file and line."""
    frac = counts.num_rejected / max(counts.num_read, 1)
    lines = [
        f"source {plan.spec.name}: {counts.num_rejected} of {counts.num_read} records are bad ({frac:.2%}; "
        f"rejects_max_frac is {plan.spec.rejects_max_frac:.2%}); {end}"
    ]
    for kind, seen in counts.rejects.items():
        first: dict = seen["first"]  # type: ignore[assignment]
        lines.append(f"  {kind}: {seen['count']}, first {first['file']}:{first['line']}: {first['why']}")
    return "\n".join(lines)
