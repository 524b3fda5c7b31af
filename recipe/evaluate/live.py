"""Models as evaluations see them: token ids in, logits out; the Megatron model of a run, or an exported checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recipe.rundir import RunDir

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Logits = Callable[["Tensor"], "Tensor"]
"""Token ids int64 [b, s] → logits fp32 [b, s, vocab_size], padding rows cut off."""

BATCH_TOKENS = 4096  # of one forward pass here: bounds the logits, the largest tensor (× vocab_size × 4 bytes)


def megatron_logits(model: Any, *, vocab_size: int) -> Logits:
    """A GPTModel in one process, in evaluation mode."""
    import torch

    model.eval()

    @torch.no_grad()
    def logits(tokens: "Tensor") -> "Tensor":
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        return model(tokens, positions, None)[..., :vocab_size].float()

    return logits


def run_logits(run: RunDir, checkpoint: Path, *, vocab_size: int, precision: str = "fp32") -> Logits:
    """The run's model as it was trained, multipliers and all."""
    from recipe.alone import load_model

    return megatron_logits(load_model(run, checkpoint, precision=precision), vocab_size=vocab_size)


def huggingface_logits(model: Any) -> Logits:
    """A transformers causal language model."""
    import torch

    model.eval()

    @torch.no_grad()
    def logits(tokens: "Tensor") -> "Tensor":
        return model(tokens, use_cache=False).logits.float()

    return logits


def load_huggingface(folder: Path, *, dtype: "torch.dtype | None" = None) -> Any:
    """Plain transformers, nothing of ours: `AutoModelForCausalLM` from a folder, offline."""
    import torch
    from transformers import AutoModelForCausalLM

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
    parts = []
    for start in range(0, len(windows), per_batch):
        batch = torch.from_numpy(np.ascontiguousarray(windows[start : start + per_batch], dtype=np.int64))
        scores = logits(batch[:, :-1])
        parts.append(cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten(), reduction="none").view(len(batch), -1))
    return torch.cat(parts).numpy()
