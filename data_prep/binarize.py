"""One source to shards: what is missing is written, by one process or many, and then the manifests.

binarize(SourceSpec(name="wiki", paths=("wiki/*.jsonl",)), tokenizer=load_tokenizer("tok"), data_dir="data")
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from data_prep.encode import PlainEncoder, make_encoder
from data_prep.errors import DataError, RejectLimitError
from data_prep.manifest import Manifest
from data_prep.plan import SHARD_BYTES, SPLITS, Plan, make_plan
from data_prep.progress import progress
from data_prep.shard import Counts, is_done, read_counts, read_done, read_encoder, reject_summary, write_shard
from data_prep.sources import SourceSpec
from data_prep.tokenizer import Tokenizer, load_tokenizer

LOG = logging.getLogger(__name__)


def binarize(
    spec: SourceSpec,
    *,
    tokenizer: Tokenizer,
    data_dir: Path | str,
    workers: int = 1,
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Manifest]:
    """Makes a source's shards, only those that are missing, and its manifests.

    Args:
        spec: The source.
        tokenizer: What its documents are encoded with.
        data_dir: Shards go to ``<data_dir>/<source>/<tokenizer hash>/{train,heldout}``.
        workers: Processes here.
        shard_bytes: Input a shard, about.

    Returns:
        The manifests by split ("train", "heldout").

    Raises:
        DataError: Input, records, disk or a worker; see the sub-classes.
    """
    plan = make_plan(spec, tokenizer=tokenizer, data_dir=data_dir, shard_bytes=shard_bytes)
    plan.store()
    run_shards(plan, missing(plan), workers=workers)
    return finish(plan)


def missing(plan: Plan, *, task: int = 0, num_tasks: int = 1) -> list[int]:
    """Shards of one task (every ``num_tasks``-th) that are not done yet."""
    return [shard for shard in range(task, plan.num_shards, num_tasks) if not is_done(plan, shard)]


def run_shards(plan: Plan, shards: list[int], *, workers: int = 1) -> None:
    """Writes the given shards, in this process or in several."""
    if not shards:
        return
    total = sum(plan.size_bytes(shard) for shard in shards)
    with progress(total or None, unit="bytes", label=f"tokenize {plan.spec.name}") as shown:
        if workers <= 1 or len(shards) == 1:
            encoder = make_encoder(load_tokenizer(plan.tokenizer_path))
            for shard in shards:
                write_shard(plan, shard, encoder=encoder, advance=shown.advance)
        else:
            _run_pool(plan, shards, min(workers, len(shards)), shown.advance)


_counter: Any = None  # bytes done by all workers of a pool
_encoder: PlainEncoder | None = None


def _start_worker(counter, tokenizer_path: Path) -> None:
    global _counter, _encoder
    _counter, _encoder = counter, make_encoder(load_tokenizer(tokenizer_path))


def _work(plan: Plan, shard: int) -> None:
    def advance(amount: int) -> None:
        with _counter.get_lock():
            _counter.value += amount

    write_shard(plan, shard, encoder=_encoder, advance=advance)


def _run_pool(plan: Plan, shards: list[int], workers: int, advance) -> None:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    shown = 0
    pool = ProcessPoolExecutor(workers, context, _start_worker, (counter, plan.tokenizer_path))
    try:
        left = {pool.submit(_work, plan, shard) for shard in shards}
        while left:
            done, left = wait(left, timeout=0.5, return_when=FIRST_COMPLETED)
            advance(counter.value - shown)
            shown = counter.value
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise DataError(
            f"source {plan.spec.name}: a worker was killed (often by the memory killer; see `dmesg`). Shards that were "
            f"done are kept; run again, with fewer workers if memory is short"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def finish(plan: Plan) -> dict[str, Manifest]:
    """Checks the limit of rejects over the whole source, and writes the manifests.

    Raises:
        RejectLimitError: Too many records were bad.
        DataError: A shard is not done.
    """
    undone = missing(plan)
    if undone:
        raise DataError(f"source {plan.spec.name}: {len(undone)} of {plan.num_shards} shards are not done (first: {undone[0]})")
    counts = total_counts(plan)
    if counts.num_rejected > plan.spec.rejects_max_frac * counts.num_read:
        raise RejectLimitError(
            reject_summary(plan, counts, f"all are listed in {plan.folder / 'rejects'}; no manifest is written")
        )
    if counts.num_read == 0:
        raise DataError(f"source {plan.spec.name}: no document in {', '.join(plan.spec.paths) or plan.spec.kind}")
    for encoder in sorted({read_encoder(plan, shard) for shard in range(plan.num_shards)}):
        if "can't be used" in encoder:
            LOG.warning("source %s: encoded by %s", plan.spec.name, encoder)
    manifests = {split: _manifest(plan, split) for split in SPLITS}
    for split, manifest in manifests.items():
        for stale in plan.split_dir(split).glob(".shard_*.tmp"):  # a worker was killed between its done file and its clean-up
            stale.unlink(missing_ok=True)
        manifest.save(plan.split_dir(split))
    return manifests


def total_counts(plan: Plan) -> Counts:
    """Counts of all shards; the first reject of each kind is the first in the input."""
    total = Counts()
    for shard in range(plan.num_shards):
        counts = read_counts(plan, shard)
        total.num_read += counts.num_read
        total.num_rejected += counts.num_rejected
        total.num_dropped += counts.num_dropped
        for kind, seen in counts.rejects.items():
            known = total.rejects.setdefault(kind, {"count": 0, "first": seen["first"]})
            known["count"] += seen["count"]  # type: ignore[operator]
    return total


def _manifest(plan: Plan, split: str) -> Manifest:
    entries = [read_done(plan, shard, split) for shard in range(plan.num_shards)]
    shards = tuple(entry for entry in entries if entry is not None and entry.num_documents)
    return Manifest(
        source=plan.spec.name,
        split=split,
        tokenizer_sha256=plan.tokenizer_sha256,
        vocab_size=plan.vocab_size,
        eod_id=plan.eod_id,
        dtype=plan.dtype,
        num_documents=sum(entry.num_documents for entry in shards),
        num_tokens=sum(entry.num_tokens for entry in shards),
        text_bytes=sum(entry.text_bytes for entry in shards),
        shards=shards,
        has_loss_mask=any(entry.mask_bytes for entry in shards),
    )


def default_workers() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))
