"""How fast this machine makes shards, measured on the beginning of the corpus itself: what ``tokenize --dry-run`` goes by."""

from __future__ import annotations

import time
from collections.abc import Iterable

from data_prep.encode import make_encoder
from data_prep.plan import Plan
from data_prep.sources import blocks
from data_prep.tokenizer import load_tokenizer

ASSUMED_BYTES_PER_S = 10_000_000  # of text, by sentencepiece's own encoder; where nothing can be measured
TRIAL_S = 1.0


def measure(plans: Iterable[Plan]) -> tuple[float, str]:
    """Bytes of input a second of one process, and how that is known."""
    read_bytes, spent_s, description = 0, 0.0, ""
    for plan in plans:
        if not plan.total_bytes:
            continue
        encoder = make_encoder(load_tokenizer(plan.tokenizer_path))
        description = encoder.description
        started_s = time.perf_counter()
        for block in blocks(plan.spec, plan.shards[0][0], fast=encoder.fast):
            encoder.encode(block)
            read_bytes += block.size_bytes
            if time.perf_counter() - started_s > TRIAL_S:
                break
        spent_s += time.perf_counter() - started_s
    if read_bytes == 0:
        return ASSUMED_BYTES_PER_S, "assumed, not measured"
    return read_bytes / spent_s, f"measured: {read_bytes / spent_s / 1e6:.0f} MB/s a process, {description}"
