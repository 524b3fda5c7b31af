"""Samples continuations from a model given as logits. No cache of keys and values: any model that scores tokens will do."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recipe.evaluate.live import Logits

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def continuations(
    logits: Logits, prompts: np.ndarray, *, max_new_tokens: int, context_tokens: int, temperature: float = 0.8,
    top_p: float = 0.95, seed: int = 1, stop_id: int | None = None,
) -> list[list[int]]:
    """Continues prompts of one length together.

    Args:
        logits: The model.
        prompts: int64 [num_prompts, prompt_tokens].
        max_new_tokens: Most tokens to add.
        context_tokens: What the model can look at; beyond it only the last tokens count.
        temperature: 0 takes the likeliest token each time.
        top_p: Tokens are drawn from the likeliest that together reach this share.
        seed: Of the draws.
        stop_id: Token that ends a continuation; not part of it.

    Returns:
        New tokens of each prompt.
    """
    import torch

    tokens = torch.from_numpy(np.ascontiguousarray(prompts, dtype=np.int64))
    start = tokens.shape[1]
    generator = torch.Generator().manual_seed(seed)
    alive = torch.ones(len(tokens), dtype=torch.bool)
    for _ in range(max_new_tokens):
        scores = logits(tokens[:, -context_tokens:])[:, -1]
        chosen = draw(scores, temperature=temperature, top_p=top_p, generator=generator)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        alive &= chosen != (-1 if stop_id is None else stop_id)
        if not alive.any():
            break
    return [_until(row, stop_id) for row in tokens[:, start:].tolist()]


def stream(
    logits: Logits, prompt: Sequence[int], *, max_new_tokens: int, context_tokens: int, temperature: float, top_p: float,
    seed: int, stop_id: int | None,
) -> Iterator[int]:
    """One continuation, a token at a time, for a terminal."""
    import torch

    tokens = list(prompt)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(max_new_tokens):
        scores = logits(torch.tensor([tokens[-context_tokens:]]))[:, -1]
        token = int(draw(scores, temperature=temperature, top_p=top_p, generator=generator))
        if token == stop_id:
            return
        tokens.append(token)
        yield token


def draw(scores: "Tensor", *, temperature: float, top_p: float, generator: "torch.Generator") -> "Tensor":
    """One token per row of scores [b, vocab_size] by nucleus sampling (Holtzman et al., arXiv 1904.09751)."""
    import torch

    if temperature == 0:
        return scores.argmax(dim=-1)
    shares, order = torch.softmax(scores / temperature, dim=-1).sort(dim=-1, descending=True)
    shares[shares.cumsum(dim=-1) - shares >= top_p] = 0.0  # what comes after the nucleus is full
    picked = torch.multinomial(shares, 1, generator=generator)
    return order.gather(-1, picked)[:, 0]


def _until(tokens: list[int], stop_id: int | None) -> list[int]:
    return tokens[: tokens.index(stop_id)] if stop_id in tokens else tokens
