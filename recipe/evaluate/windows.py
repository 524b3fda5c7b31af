"""Which tokens are evaluated, and which were trained on, as rows of token ids. No torch."""

from collections.abc import Mapping

import numpy as np

from recipe.resolve import ResolvedRun
from recipe.stream import TokenStore, open_streams


def heldout_windows(store: TokenStore, *, seq_length_tokens: int, max_tokens: int) -> np.ndarray:
    """The first windows of a held-out set, laid end to end: int64 [num_windows, seq + 1].

    A set shorter than one sequence gives a single shorter window; an empty one gives no row.
    """
    length = min(seq_length_tokens, store.num_tokens - 1)
    if length < 1:
        return np.zeros((0, 2), dtype=np.int64)
    count = max(1, min(max_tokens, store.num_tokens - 1) // length)
    flat = store.tokens(0, count * length + 1)
    return np.lib.stride_tricks.sliding_window_view(flat, length + 1)[::length].copy()


def seen_windows(resolved: ResolvedRun, drawn: Mapping[str, int]) -> np.ndarray:
    """Every block that the ledger counts, int64 [num_blocks, block + 1]; one seen in two epochs is there twice."""
    block = resolved.config.block_tokens
    folders = {name: resolved.data[name].train for name, count in drawn.items() if count}
    streams = open_streams(folders, block_tokens=block, seed=resolved.config.seed)
    rows = [
        stream.tokens(stream.window(draw)) for name, stream in streams.items() for draw in range(drawn[name])
    ]
    return np.stack(rows) if rows else np.zeros((0, block + 1), dtype=np.int64)
