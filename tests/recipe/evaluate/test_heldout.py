"""Held-out loss by source: known answers from models whose loss is known."""

from math import log

import numpy as np
import pytest
import torch

from recipe.evaluate.generate import continuations, draw
from recipe.evaluate.heldout import bytes_per_token, evaluate_heldout
from recipe.evaluate.live import token_nats
from tests.recipe.export.conftest import texts, tokenizer  # noqa: F401 - fixtures


def uniform(tokens: torch.Tensor) -> torch.Tensor:
    return torch.zeros(*tokens.shape, 32)


def counts_up(tokens: torch.Tensor) -> torch.Tensor:
    """All but certain that the next id is one more."""
    return 30.0 * torch.nn.functional.one_hot((tokens + 1) % 32, 32).float()


class Recomputed:
    """A decoder without a cache, over a function from tokens to logits."""

    def __init__(self, logits) -> None:
        self.logits, self.rows = logits, None

    def decoder(self, *, num_rows: int, max_tokens: int) -> "Recomputed":
        return Recomputed(self.logits)

    def feed(self, tokens: torch.Tensor) -> torch.Tensor:
        self.rows = tokens if self.rows is None else torch.cat([self.rows, tokens], dim=1)
        return self.logits(self.rows)[:, -1]


def test_a_uniform_model_pays_log_of_the_vocabulary() -> None:
    windows = np.random.default_rng(0).integers(32, size=(5, 9))
    result = evaluate_heldout(lambda rows: token_nats(uniform, rows), {"a": windows}, token_bytes=np.full(32, 2))["a"]
    assert result["loss_nats"] == pytest.approx(log(32), rel=1e-6)
    assert result["bits_per_byte"] == pytest.approx(5 / 2, rel=1e-6)
    assert (result["num_tokens"], result["num_bytes"], result["baselines"]) == (40, 80, {})


def test_tokens_are_scored_by_what_comes_before_them() -> None:
    windows = np.stack([np.arange(9), np.arange(9)[::-1]])
    nats = token_nats(counts_up, windows)
    assert nats.shape == (2, 8)
    assert nats[0].max() < 1e-3
    assert nats[1].min() > 20


def test_baselines_are_of_the_seen_windows() -> None:
    seen = np.tile(np.arange(33) % 32, (50, 1))
    sets = {"same": seen[:2], "other": seen[:2, ::-1].copy()}
    result = evaluate_heldout(lambda rows: token_nats(uniform, rows), sets, token_bytes=np.ones(32, int), seen=seen)
    assert result["same"]["baselines"]["bigram"] < 0.2
    assert result["other"]["baselines"]["bigram"] > 2
    assert result["same"]["baselines"]["unigram"] == pytest.approx(log(32), rel=0.05)


def test_bytes_of_tokens_add_up_to_the_text(tokenizer, texts) -> None:  # noqa: F811
    lengths = bytes_per_token(tokenizer)
    for text in (*texts, "é 语言 🙂 \x00", "  a\n\tb  "):
        assert lengths[tokenizer.encode(text)].sum() == len(text.encode())
    assert lengths[tokenizer.eod_id] == 0


def test_continuations_stop_at_the_stop_token_and_repeat_by_seed() -> None:
    prompts = np.array([[1, 2, 3], [20, 21, 22]])
    likeliest = continuations(Recomputed(counts_up), prompts, max_new_tokens=4, context_tokens=8, temperature=0)
    assert likeliest == [[4, 5, 6, 7], [23, 24, 25, 26]]
    stopped = continuations(Recomputed(counts_up), prompts, max_new_tokens=9, context_tokens=8, temperature=0, stop_id=25)
    assert stopped[1] == [23, 24]
    drawn = [continuations(Recomputed(uniform), prompts, max_new_tokens=9, context_tokens=8, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_full_context_loses_its_older_half() -> None:
    longest = []

    def noted(tokens: torch.Tensor) -> torch.Tensor:
        longest.append(tokens.shape[1])
        return counts_up(tokens)

    found = continuations(Recomputed(noted), np.array([[1, 2, 3]]), max_new_tokens=12, context_tokens=6, temperature=0)
    assert found == [list(range(4, 16))]
    assert max(longest) == 6


def test_nucleus_leaves_out_the_tail() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(2000, -1)
    picked = draw(scores, temperature=1.0, top_p=0.75, generator=torch.Generator().manual_seed(0))
    shares = torch.bincount(picked, minlength=4) / 2000
    assert shares[2:].sum() == 0
    assert shares[0] == pytest.approx(0.5 / 0.8, abs=0.04)
