"""Loss by the index of the token in its context, of any text, with the power law through it (Figure 5 of the report)."""

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.tokenizer import Tokenizer
from recipe.errors import RecipeError
from recipe.evaluate.live import Logits, token_nats
from recipe.evaluate.powerlaw import FitError, fit, loss_by_index

MAX_WINDOWS = 2000


def text_windows(path: Path, tokenizer: Tokenizer, *, seq_length_tokens: int) -> np.ndarray:
    """A text file as windows of tokens laid end to end, int64 [n, seq + 1]; raises `RecipeError` for too short a text."""
    try:
        tokens = np.array(tokenizer.encode(path.read_text(encoding="utf-8")), dtype=np.int64)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"--by-index {path}: can't be read as UTF-8 text: {error}") from error
    count = (len(tokens) - 1) // seq_length_tokens
    if count < 1:
        raise RecipeError(f"--by-index {path}: {len(tokens)} tokens are fewer than one context of {seq_length_tokens} + 1")
    return np.lib.stride_tricks.sliding_window_view(tokens, seq_length_tokens + 1)[::seq_length_tokens][:count].copy()


def loss_curve(logits: Logits, windows: np.ndarray) -> dict[str, Any]:
    """Mean loss and its standard error at each index, the fit and its 95 % intervals (or why there is none), as JSON.

    Index t counts the tokens that the prediction could look at, from 1; windows are int64 [n, seq + 1].
    """
    windows = windows[:MAX_WINDOWS]
    mean, error = loss_by_index(token_nats(logits, windows))
    index = np.arange(1.0, len(mean) + 1)
    places = index.astype(int).tolist()
    curve = {"num_windows": len(windows), "index": places, "loss_nats": mean.tolist(), "error_nats": error.tolist()}
    try:
        return curve | {"fit": fit(index, mean, error=error).as_dict()}
    except FitError as failure:  # context helps a model little before it has learned to use it
        return curve | {"fit": None, "why": str(failure)}
