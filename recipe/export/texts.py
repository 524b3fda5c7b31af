"""Held-out documents as text again, for comparing tokenizers. Lossless tokenizers give back what was read."""

from collections.abc import Iterator

import numpy as np

from data_prep.tokenizer import Tokenizer
from recipe.resolve import ResolvedRun
from recipe.stream import TokenStore

MAX_BYTES_PER_SOURCE = 2_000_000


def heldout_texts(resolved: ResolvedRun, tokenizer: Tokenizer) -> Iterator[str]:
    """Whole held-out documents of each source, in order, up to a bound."""
    for ref in resolved.data.values():
        if ref.heldout is None:
            continue
        store = TokenStore(ref.heldout)
        tokens = store.tokens(0, min(store.num_tokens, MAX_BYTES_PER_SOURCE // 2))
        ends = np.flatnonzero(tokens == tokenizer.eod_id)
        taken_bytes = 0
        for start, end in zip(np.concatenate([[0], ends[:-1] + 1]), ends):
            text = tokenizer.decode(tokens[start:end].tolist())
            taken_bytes += len(text.encode())
            yield text
            if taken_bytes > MAX_BYTES_PER_SOURCE:
                break
