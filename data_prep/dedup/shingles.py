"""Texts to sets of 5-gram hashes, a megabyte at a time in numpy: no Python object a word.

A token is a run of letters and digits; where a script writes no spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each
character is one, so that a 5-gram is five characters there. Case, punctuation and layout don't count.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

GRAM = 5
BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64
MIX = np.uint64(0xD6E8FEB86659FD93)


class Grams(NamedTuple):
    """Hashes of all n-grams of some texts, in the order of the texts, repeats included.

    Attributes:
        hashes: uint64, end to end. [num_grams]
        bounds: Where each text's begin, and the end; int64. [num_texts + 1]
    """

    hashes: np.ndarray
    bounds: np.ndarray


def normalized(text: str) -> str:
    """What is compared: full-width forms folded (NFKC), lower case."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.lower()


class Tokens(NamedTuple):
    """Hashes of the tokens of some texts.

    Attributes:
        hashes: uint64, end to end. [num_tokens]
        first: Where each text's begin, and the end; int64. [num_texts + 1]
    """

    hashes: np.ndarray
    first: np.ndarray


def tokens(texts: Sequence[str]) -> Tokens:
    """Hashes of all tokens. Keep the texts' sum near a megabyte, for arrays of eight bytes a byte are made of it."""
    encoded = [normalized(text).encode("utf-8", "surrogatepass") for text in texts]
    blob = np.frombuffer(b"\n".join(encoded) + b"\n", dtype=np.uint8)
    starts, ends = token_bounds(blob)
    document_ends = np.cumsum([len(data) + 1 for data in encoded], dtype=np.int64)
    first = np.concatenate(([0], np.searchsorted(starts, document_ends)))
    return Tokens(_hash_spans(blob, starts, ends), first)


def grams(texts: Sequence[str], *, size: int = GRAM) -> Grams:
    """Hashes of every run of ``size`` tokens; a shorter text is one run, and one without tokens has none."""
    return combined(tokens(texts), size)


def combined(found: Tokens, size: int) -> Grams:
    """Tokens to grams. A text of n < ``size`` tokens gets the hash that the same n tokens have as a gram of size n."""
    hashes, first = found
    num_tokens = np.diff(first)
    gap = size - 1  # empty tokens put after each text, so that no gram joins two texts
    padded_first = first[:-1] + gap * np.arange(len(num_tokens))
    padded = np.zeros(len(hashes) + gap * len(num_tokens) + gap, dtype=np.uint64)
    padded[np.arange(len(hashes)) + np.repeat(padded_first - first[:-1], num_tokens)] = hashes
    sums = np.zeros(len(padded) - gap, dtype=np.uint64)
    weight = 1
    for lag in range(size):
        sums += padded[lag : lag + len(sums)] * np.uint64(weight)
        weight = weight * 0xC2B2AE3D27D4EB4F % 2**64
    num_grams = np.where(num_tokens > 0, np.maximum(num_tokens - gap, 1), 0)
    bounds = np.concatenate(([0], np.cumsum(num_grams)))
    where = np.arange(bounds[-1]) + np.repeat(padded_first - bounds[:-1], num_grams)
    return Grams(mixed(sums[where]), bounds)


def mixed(values: np.ndarray) -> np.ndarray:
    """Spreads every input bit over all output bits (xorshift-multiply, in place); a bijection."""
    values ^= values >> np.uint64(32)
    values *= MIX
    values ^= values >> np.uint64(32)
    values *= MIX
    values ^= values >> np.uint64(32)
    return values


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """BASE^i and BASE^-i modulo 2^64 for i < count, kept for the next block."""
    if len(_POWERS[0]) < count:
        size = max(count, 1 << 20)
        _POWERS[:] = [_power_table(BASE, size), _power_table(pow(BASE, -1, 2**64), size)]
    return _POWERS[0][:count], _POWERS[1][:count]


def _power_table(base: int, count: int) -> np.ndarray:
    table = np.full(count, base, dtype=np.uint64)
    table[0] = 1
    return np.cumprod(table)


_POWERS: list[np.ndarray] = [np.zeros(0, np.uint64), np.zeros(0, np.uint64)]


def _hash_spans(blob: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A polynomial hash of each span, from one running sum: sum of byte × BASE^i, shifted back to the span's start."""
    powers, inverses = _powers(len(blob) + 1)
    running = np.empty(len(blob) + 1, dtype=np.uint64)
    running[0] = 0
    np.cumsum((blob.astype(np.uint64) + np.uint64(1)) * powers[:-1], out=running[1:])
    return mixed((running[ends] - running[starts]) * inverses[starts])


def _classes() -> np.ndarray:
    """Byte -> 1 where it belongs to a word: ASCII letters, digits, underscore, and all of multi-byte characters."""
    table = np.zeros(256, dtype=bool)
    for character in b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_":
        table[character] = True
    table[0x80:] = True
    return table


WORD = _classes()


def token_bounds(blob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each token, int64. [num_tokens] each"""
    word = WORD[blob]
    if blob.max(initial=0) < 0x80:
        return _runs(word)
    leads = np.flatnonzero(blob >= 0xC0)
    first, second = blob[leads], blob[leads + 1]
    width = np.where(first >= 0xF0, 4, np.where(first >= 0xE0, 3, 2))
    # U+2000-207F and U+3000-303F are punctuation; so is U+0080-00BF but for three letters
    sign = (first == 0xE2) & (second <= 0x81) | (first == 0xE3) & (second == 0x80)
    sign |= (first == 0xC2) & ~np.isin(second, (0xAA, 0xB5, 0xBA))
    # kana and Han; Thai and Lao; Khmer; Burmese; beyond the basic plane: more Han, and emoji
    single = (first >= 0xE3) & (first <= 0xE9) | (first == 0xE0) & (second >= 0xB8) & (second <= 0xBB) | (first >= 0xF0)
    single |= (first == 0xE1) & ((second <= 0x82) | (second == 0x9E) | (second == 0x9F))
    single &= ~sign
    apart = sign | single
    for offset in range(4):
        word[leads[apart & (width > offset)] + offset] = False
    starts, ends = _runs(word)
    all_starts = np.concatenate((starts, leads[single]))
    order = np.argsort(all_starts, kind="stable")
    return all_starts[order], np.concatenate((ends, (leads + width)[single]))[order]


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each run of true values."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return edges[::2], edges[1::2]
