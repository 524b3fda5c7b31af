"""What counting alone achieves: unigram, bigram and trigram models of exactly the tokens that a model has seen.

Each is interpolated modified Kneser-Ney (Chen and Goodman 1999, TR-10-98, section 3): an order's counts are discounted and
what that frees goes to the next lower order, down to uniform. The discounts are fitted by likelihood on a slice of the
training windows that is left out for that purpose (deleted interpolation), then the counts are taken from all windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from recipe.errors import RecipeError

NAMES = {1: "unigram", 2: "bigram", 3: "trigram"}
SLICE_EVERY_WINDOWS = 20  # one training window in so many fits the discounts
SLICE_MAX_TOKENS = 60_000
MAX_VOCAB_SIZE = 2**21  # three ids in one int64 key
NUM_DISCOUNTS = 3  # for counts of one, two, and three or more


class BaselineError(RecipeError):
    """Windows that no baseline can be trained on."""


@dataclass(frozen=True)
class Level:
    """Counts of one order, sorted by key (ids as digits in base vocab_size, the predicted token last)."""

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    contexts: NDArray[np.int64]  # unique key // vocab_size
    totals: NDArray[np.int64]  # [contexts] sum of counts
    kinds: NDArray[np.int64]  # [contexts, 3] continuations seen once, twice, three times or more

    @classmethod
    def of(cls, keys: NDArray[np.int64], counts: NDArray[np.int64], *, vocab_size: int) -> "Level":
        contexts, starts = np.unique(keys // vocab_size, return_index=True)
        kinds = np.stack([counts == 1, counts == 2, counts >= 3], axis=1).astype(np.int64)
        return cls(keys, counts, contexts, np.add.reduceat(counts, starts), np.add.reduceat(kinds, starts, axis=0))

    def features(self, keys: NDArray[np.int64], *, vocab_size: int) -> "Features":
        """The counts that the probability of each key needs; zeros where key or context is unseen or negative."""
        counts = _look_up(self.keys, self.counts, keys)
        contexts = np.where(keys >= 0, keys // vocab_size, -1)
        totals = _look_up(self.contexts, self.totals, contexts)
        kinds = _look_up(self.contexts, self.kinds, contexts)
        return Features(counts, totals, kinds)


@dataclass(frozen=True)
class Features:
    """Per predicted token: its count after its context, the context's total, and the context's continuations by kind."""

    counts: NDArray[np.int64]
    totals: NDArray[np.int64]
    kinds: NDArray[np.int64]

    def probability(self, lower: NDArray[np.float64], discounts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Discounted share plus the freed mass times the lower order (Chen and Goodman, equation 26)."""
        table = np.concatenate([[0.0], discounts])
        kept = np.maximum(self.counts - table[np.minimum(self.counts, NUM_DISCOUNTS)], 0)
        freed = self.kinds @ discounts
        total = np.maximum(self.totals, 1)
        return np.where(self.totals > 0, (kept + freed * lower) / total, lower)


class NGram:
    """An interpolated Kneser-Ney model of order 1, 2 or 3 over windows of token ids."""

    def __init__(self, order: int, *, vocab_size: int) -> None:
        if not 2 <= vocab_size <= MAX_VOCAB_SIZE:
            raise BaselineError(f"vocab_size={vocab_size}: n-gram keys hold vocabularies of 2 to {MAX_VOCAB_SIZE} ids")
        self.order = order
        self.vocab_size = vocab_size
        self.levels: list[Level] = []
        self.discounts = np.zeros((order, NUM_DISCOUNTS))

    def fit(self, windows: NDArray[np.integer]) -> "NGram":
        """Trains on windows [num_windows, window_tokens]; the first token of a window is only ever context."""
        windows = _checked(windows, vocab_size=self.vocab_size)
        held = np.arange(len(windows)) % SLICE_EVERY_WINDOWS == SLICE_EVERY_WINDOWS - 1
        if not held.any():
            held[-1] = len(windows) > 1
        if held.any():
            self.levels = self._count(windows[~held])
            self.discounts = self._fit_discounts(windows[held][: max(1, SLICE_MAX_TOKENS // windows.shape[1])])
            self.levels = self._count(windows)
        else:
            self.levels = self._count(windows)
            self.discounts = np.stack([_closed_form(level.counts) for level in self.levels])
        return self

    def nats(self, windows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Negative log probability of each predicted token: [num_windows, window_tokens - 1]."""
        windows = _checked(windows, vocab_size=self.vocab_size)
        features = self._features(windows)
        return -np.log(self._probability(features, self.discounts)).reshape(len(windows), -1)

    def _count(self, windows: NDArray[np.int64]) -> list[Level]:
        """Lowest order first: raw counts at the top, numbers of distinct left neighbours below (Kneser-Ney)."""
        keys = _keys(windows, order=self.order, vocab_size=self.vocab_size)
        unique, counts = np.unique(keys[keys >= 0], return_counts=True)
        levels = [Level.of(unique, counts, vocab_size=self.vocab_size)]
        for order in range(self.order - 1, 0, -1):
            unique, counts = np.unique(levels[0].keys % self.vocab_size**order, return_counts=True)
            levels.insert(0, Level.of(unique, counts, vocab_size=self.vocab_size))
        return levels

    def _features(self, windows: NDArray[np.int64]) -> list[Features]:
        keys = (_keys(windows, order=order, vocab_size=self.vocab_size).ravel() for order in range(1, self.order + 1))
        return [level.features(key, vocab_size=self.vocab_size) for level, key in zip(self.levels, keys, strict=True)]

    def _probability(self, features: Sequence[Features], discounts: NDArray[np.float64]) -> NDArray[np.float64]:
        probability = np.full(len(features[0].counts), 1 / self.vocab_size)
        for feature, row in zip(features, discounts, strict=True):
            probability = feature.probability(probability, row)
        return probability

    def _fit_discounts(self, windows: NDArray[np.int64]) -> NDArray[np.float64]:
        features = self._features(windows)
        start = np.stack([_closed_form(level.counts) for level in self.levels])

        def loss(flat: NDArray[np.float64]) -> float:
            return -float(np.log(self._probability(features, flat.reshape(start.shape))).mean())

        bounds = [(1e-4, count + 0.999) for _ in range(self.order) for count in range(NUM_DISCOUNTS)]
        return minimize(loss, start.ravel(), method="L-BFGS-B", bounds=bounds).x.reshape(start.shape)


def baseline_nats(
    training: NDArray[np.integer], heldout: dict[str, NDArray[np.integer]], *, vocab_size: int
) -> dict[str, dict[str, float]]:
    """Mean nats per token of all three baselines on each source.

    Args:
        training: windows that the model has seen, [num_windows, window_tokens].
        heldout: source → windows of the same kind, [num_windows, window_tokens].
        vocab_size: number of ids.

    Returns:
        source → {"unigram": nats, "bigram": nats, "trigram": nats}.
    """
    result: dict[str, dict[str, float]] = {name: {} for name in heldout}
    for order, name in NAMES.items():
        model = NGram(order, vocab_size=vocab_size).fit(training)
        for source, windows in heldout.items():
            result[source][name] = float(model.nats(windows).mean())
    return result


def _keys(windows: NDArray[np.int64], *, order: int, vocab_size: int) -> NDArray[np.int64]:
    """Key of the n-gram that ends at each predicted token; -1 where the window holds too little before it."""
    length = windows.shape[1]
    keys = np.full((len(windows), length - 1), -1, dtype=np.int64)
    if length >= order:
        packed = np.zeros((len(windows), length - max(order - 1, 1)), dtype=np.int64)
        first = max(order - 1, 1)
        for back in range(order - 1, -1, -1):
            packed = packed * vocab_size + windows[:, first - back : length - back]
        keys[:, first - 1 :] = packed
    return keys


def _look_up(keys: NDArray[np.int64], values: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = values[position]
    found[keys[position] != wanted] = 0
    return found


def _closed_form(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Discounts from counts of counts (Chen and Goodman, equation 26ff.), the start of the fit."""
    n = [max(int((counts == count).sum()), 1) for count in range(1, NUM_DISCOUNTS + 2)]
    y = n[0] / (n[0] + 2 * n[1])
    raw = [count - (count + 1) * y * n[count] / n[count - 1] for count in range(1, NUM_DISCOUNTS + 1)]
    return np.clip(raw, 0.05, [0.95, 1.9, 2.8])


def _checked(windows: NDArray[np.integer], *, vocab_size: int) -> NDArray[np.int64]:
    if windows.ndim != 2 or windows.shape[1] < 2 or not len(windows):
        raise BaselineError(f"windows have the shape {windows.shape}; baselines need [num_windows, at least 2 tokens]")
    if int(windows.max()) >= vocab_size or int(windows.min()) < 0:
        raise BaselineError(f"token id {int(windows.max())} is outside the vocabulary of {vocab_size}")
    return windows.astype(np.int64)
