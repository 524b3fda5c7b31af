"""Held-out loss and bits per byte by source, with the counting baselines beside it.

Bits per byte compare models of different tokenizers: all nats of the predicted tokens over the bytes of text they stand
for. An end-of-document token is predicted, and paid for, but stands for no bytes.
"""

from collections.abc import Callable, Mapping
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.atomic import write_json
from data_prep.tokenizer import Tokenizer
from recipe.evaluate.baselines import baseline_nats
from recipe.evaluate.windows import heldout_windows
from recipe.resolve import ResolvedRun
from recipe.stream import TokenStore

TokenNats = Callable[[np.ndarray], np.ndarray]
"""int64 windows [n, t] → nats of each predicted token [n, t - 1]."""

BASELINE_MAX_TOKENS = 200_000_000  # sorting more trigrams than this in memory is not worth what it tells


def heldout_sets(resolved: ResolvedRun, *, max_tokens: int | None = None) -> dict[str, np.ndarray]:
    """Source → held-out windows, for every source that has some."""
    limit = resolved.config.evaluate.heldout_tokens if max_tokens is None else max_tokens
    seq = resolved.config.model.seq_length_tokens
    stores = {name: TokenStore(ref.heldout) for name, ref in resolved.data.items() if ref.heldout}
    sets = {name: heldout_windows(store, seq_length_tokens=seq, max_tokens=limit) for name, store in stores.items()}
    return {name: windows for name, windows in sets.items() if len(windows)}


def evaluate_heldout(
    nats: TokenNats, sets: Mapping[str, np.ndarray], *, token_bytes: np.ndarray, seen: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """Loss of one model on each source.

    Args:
        nats: The model.
        sets: Source → windows [n, t].
        token_bytes: Bytes of text that each id stands for, [vocab_size].
        seen: Windows the model was trained on, for the baselines; None leaves them out.

    Returns:
        Source → {"loss_nats", "bits_per_byte", "num_tokens", "num_bytes", "baselines"}.
    """
    baselines: dict[str, dict[str, float]] = {}
    if seen is not None and 0 < seen.size <= BASELINE_MAX_TOKENS:
        baselines = baseline_nats(seen, dict(sets), vocab_size=len(token_bytes))
    result = {}
    for name, windows in sets.items():
        losses = nats(windows)
        num_bytes = int(token_bytes[windows[:, 1:]].sum())
        result[name] = {
            "loss_nats": float(losses.mean(dtype=np.float64)),
            "bits_per_byte": float(losses.sum(dtype=np.float64)) / log(2) / max(num_bytes, 1),
            "num_tokens": int(losses.size),
            "num_bytes": num_bytes,
            "baselines": baselines.get(name, {}),
        }
    return result


def write_heldout(path: Path, *, stage: str, tokens: int, sources: dict[str, dict[str, Any]]) -> None:
    write_json(path, {"tokens": tokens, "stage": stage, "sources": sources})


def bytes_per_token(tokenizer: Tokenizer) -> np.ndarray:
    """Bytes of text behind each id, int64 [vocab_size]; exact for tokenizers that lose nothing."""
    processor: Any = tokenizer.processor
    if tokenizer.kind == "sentencepiece":
        lengths = np.zeros(tokenizer.vocab_size, dtype=np.int64)
        for index in range(tokenizer.vocab_size):
            if processor.is_byte(index):
                lengths[index] = 1
            elif not (processor.is_control(index) or processor.is_unknown(index)):
                lengths[index] = len(processor.id_to_piece(index).replace("▁", " ").encode())
        return lengths
    return np.array([_bytes_of_piece(processor, index) for index in range(tokenizer.vocab_size)], dtype=np.int64)


def _bytes_of_piece(processor: Any, index: int) -> int:
    """Byte-level vocabularies write one character a byte; special tokens stand for no text."""
    if index in processor.get_added_tokens_decoder():
        return 0
    return len(processor.id_to_token(index) or "")
