"""Samples continuations, each token from the cached keys and values of those before it."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recipe.evaluate.scorers import Scorer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Choose = Callable[["Tensor"], "Tensor"]
"""Logits [b, vocab_size] → tokens [b]."""


def decode(scorer: Scorer, prompts: "Tensor", *, context_tokens: int, choose: Choose) -> "Iterator[Tensor]":
    """Tokens after prompts of one length, int64 [b] at a time, for as long as somebody asks.

    Args:
        scorer: The model.
        prompts: int64 [b, s].
        context_tokens: What the model can look at. When it is full its older half is dropped and the rest is read anew.
        choose: Picks tokens from logits.
    """
    import torch

    tokens = prompts[:, -context_tokens:]
    decoder = scorer.decoder(num_rows=len(tokens), max_tokens=context_tokens)
    logits = decoder.feed(tokens)
    while True:
        chosen = choose(logits)
        yield chosen
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        if tokens.shape[1] > context_tokens:
            tokens = tokens[:, -max(context_tokens // 2, 1) :]
            decoder = scorer.decoder(num_rows=len(tokens), max_tokens=context_tokens)
            logits = decoder.feed(tokens)
        else:
            logits = decoder.feed(chosen[:, None])


def continuations(
    scorer: Scorer, prompts: np.ndarray, *, max_new_tokens: int, context_tokens: int, temperature: float = 0.8,
    top_p: float = 0.95, seed: int = 1, stop_id: int | None = None,
) -> list[list[int]]:
    """Continues prompts of one length together.

    Args:
        scorer: The model.
        prompts: int64 [num_prompts, prompt_tokens].
        max_new_tokens: Most tokens to add.
        context_tokens: What the model can look at.
        temperature: 0 takes the likeliest token each time.
        top_p: Tokens are drawn from the likeliest that together reach this share.
        seed: Of the draws.
        stop_id: Token that ends a continuation; not part of it.

    Returns:
        New tokens of each prompt.
    """
    import torch

    tokens = torch.from_numpy(np.ascontiguousarray(prompts, dtype=np.int64))
    new: list[list[int]] = [[] for _ in prompts]
    alive = [True] * len(prompts)
    steps = decode(scorer, tokens, context_tokens=context_tokens, choose=sampler(temperature, top_p, seed))
    for _ in range(max_new_tokens):
        for row, token in enumerate(next(steps).tolist()):
            alive[row] = alive[row] and token != stop_id
            if alive[row]:
                new[row].append(token)
        if not any(alive):
            break
    return new


def stream(
    scorer: Scorer, prompt: Sequence[int], *, max_new_tokens: int, context_tokens: int, temperature: float, top_p: float,
    seed: int, stop_id: int | None,
) -> Iterator[int]:
    """One continuation, a token at a time, for a terminal."""
    import torch

    choose = sampler(temperature, top_p, seed)
    steps = decode(scorer, torch.tensor([list(prompt)]), context_tokens=context_tokens, choose=choose)
    for _ in range(max_new_tokens):
        token = int(next(steps))
        if token == stop_id:
            return
        yield token


def sampler(temperature: float, top_p: float, seed: int) -> Choose:
    """Draws with a generator of its own: the same on every rank, and again with the same seed."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return lambda logits: draw(logits, temperature=temperature, top_p=top_p, generator=generator)


def draw(scores: "Tensor", *, temperature: float, top_p: float, generator: "torch.Generator") -> "Tensor":
    """One token per row of scores [b, vocab_size] by nucleus sampling (Holtzman et al., arXiv 1904.09751)."""
    import torch

    if temperature == 0:
        return scores.argmax(dim=-1)
    shares, order = torch.softmax(scores / temperature, dim=-1).sort(dim=-1, descending=True)
    shares[shares.cumsum(dim=-1) - shares >= top_p] = 0.0  # what comes after the nucleus is full
    picked = torch.multinomial(shares, 1, generator=generator)
    return order.gather(-1, picked)[:, 0]
