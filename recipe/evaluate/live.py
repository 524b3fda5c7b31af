"""Models loaded for evaluation: the GPTModel of a run, in one process or in its layout, and exported checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recipe.evaluate.scorers import HuggingFaceScorer, MegatronScorer, Scorer
from recipe.evaluate.sharing import shared
from recipe.rundir import RunDir

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Logits = Callable[["Tensor"], "Tensor"]
"""Token ids int64 [b, s] → logits fp32 [b, s, vocab_size], padding rows cut off."""

BATCH_TOKENS = 4096  # of one forward pass here: bounds the logits, the largest tensor (× vocab_size × 4 bytes)


def run_scorer(run: RunDir, checkpoint: Path, *, vocab_size: int, precision: str = "fp32") -> MegatronScorer:
    """The run's model as it was trained, multipliers and all, in the layout of the processes that there are."""
    from recipe.alone import load_model

    return MegatronScorer(load_model(run, checkpoint, precision=precision), vocab_size=vocab_size)


def all_logits(scorer: Scorer) -> Logits:
    """Logits of every position."""
    import torch

    def logits(tokens: "Tensor") -> "Tensor":
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        found = scorer.logits_at(tokens, torch.arange(tokens.numel()), positions=positions, mask=None)
        return found.view(*tokens.shape, -1)

    return logits


def run_logits(run: RunDir, checkpoint: Path, *, vocab_size: int) -> Logits:
    return all_logits(run_scorer(run, checkpoint, vocab_size=vocab_size))


def huggingface_logits(model: Any) -> Logits:
    """A transformers causal language model."""
    return all_logits(HuggingFaceScorer(model))


def load_huggingface(folder: Path, *, dtype: "torch.dtype | None" = None) -> Any:
    """Plain transformers, nothing of ours: `AutoModelForCausalLM` from a folder, offline."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or torch.float32, local_files_only=True).eval()


def token_nats(logits: Logits, windows: np.ndarray) -> np.ndarray:
    """Negative log probability of each predicted token.

    Args:
        logits: The model.
        windows: int64 [num_windows, window_tokens]; the model sees all but the last token of each.

    Returns:
        float32 [num_windows, window_tokens - 1].
    """
    import torch
    from torch.nn.functional import cross_entropy

    per_batch = max(1, BATCH_TOKENS // (windows.shape[1] - 1))

    def nats(start: int) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(windows[start : start + per_batch], dtype=np.int64))
        scores = logits(batch[:, :-1])
        return cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten(), reduction="none").view(len(batch), -1).numpy()

    return np.concatenate(shared(range(0, len(windows), per_batch), nats))
