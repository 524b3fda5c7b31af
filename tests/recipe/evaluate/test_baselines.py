"""Kneser-Ney baselines: they are distributions, they order as theory says, and they find a known chain's entropy."""

import numpy as np
import pytest

from recipe.evaluate.baselines import BaselineError, NGram, baseline_nats


def markov_windows(*, num_windows: int, length: int, vocab_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a first-order Markov chain and its transition matrix."""
    transition = np.random.default_rng(7).dirichlet(np.full(vocab_size, 0.2), size=vocab_size)
    rng = np.random.default_rng(seed)
    windows = np.empty((num_windows, length), dtype=np.int64)
    windows[:, 0] = rng.integers(vocab_size, size=num_windows)
    for position in range(1, length):
        chosen = transition[windows[:, position - 1]].cumsum(axis=1)
        windows[:, position] = (rng.random((num_windows, 1)) < chosen).argmax(axis=1)
    return windows, transition


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one_after_any_context(order: int) -> None:
    windows, _ = markov_windows(num_windows=40, length=33, vocab_size=17, seed=1)
    model = NGram(order, vocab_size=17).fit(windows)
    for context in ([0, 1], [16, 16], [3, 9]):
        continuations = np.array([[*context, token] for token in range(17)])
        assert np.exp(-model.nats(continuations)[:, -1]).sum() == pytest.approx(1, abs=1e-9)


def test_bigram_reaches_the_entropy_of_a_markov_chain() -> None:
    training, transition = markov_windows(num_windows=4000, length=65, vocab_size=23, seed=1)
    heldout, _ = markov_windows(num_windows=500, length=65, vocab_size=23, seed=2)
    entropy = -np.log(transition[heldout[:, :-1], heldout[:, 1:]]).mean()
    nats = baseline_nats(training, {"chain": heldout}, vocab_size=23)["chain"]
    assert nats["bigram"] == pytest.approx(entropy, abs=0.01)
    assert nats["unigram"] > nats["bigram"] + 0.5
    assert abs(nats["trigram"] - nats["bigram"]) < 0.02  # nothing to gain in a first-order chain


def test_fitted_discounts_beat_additive_smoothing() -> None:
    training, _ = markov_windows(num_windows=300, length=33, vocab_size=97, seed=1)
    heldout, _ = markov_windows(num_windows=300, length=33, vocab_size=97, seed=2)
    counts = np.zeros((97, 97))
    np.add.at(counts, (training[:, :-1].ravel(), training[:, 1:].ravel()), 1)
    additive = min(
        -np.log(((counts + add) / (counts + add).sum(1, keepdims=True))[heldout[:, :-1], heldout[:, 1:]]).mean()
        for add in (0.01, 0.03, 0.1, 0.3, 1.0)
    )
    assert NGram(2, vocab_size=97).fit(training).nats(heldout).mean() < additive


def test_unseen_tokens_have_a_finite_loss() -> None:
    training = np.zeros((4, 9), dtype=np.int64)
    heldout = np.arange(20).reshape(2, 10)
    for order in (1, 2, 3):
        assert np.isfinite(NGram(order, vocab_size=50).fit(training).nats(heldout)).all()


def test_one_window_is_enough() -> None:
    windows, _ = markov_windows(num_windows=1, length=400, vocab_size=5, seed=3)
    assert np.isfinite(NGram(3, vocab_size=5).fit(windows).nats(windows)).all()


@pytest.mark.parametrize("windows", [np.zeros((0, 5), int), np.zeros((3, 1), int), np.full((2, 4), 9), np.full((2, 4), -1)])
def test_impossible_windows_are_refused(windows: np.ndarray) -> None:
    with pytest.raises(BaselineError):
        NGram(2, vocab_size=9).fit(windows)
