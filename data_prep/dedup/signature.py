"""MinHash and SimHash signatures of gram sets, and the band keys by which candidates meet.

MinHash: Broder 1997. Two sets of Jaccard similarity s share a band of r rows with probability s^r, so b bands find them with
1 - (1 - s^r)^b: 14 × 8 gives .924 at .80, .989 at .85, .9996 at .90. Short texts use the same 112 values as 28 × 4 (.999995 at
.80): an edit changes more of a short text, and its signature is noisier where it counts. The candidates are verified, so that a
generous band costs time, never precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.dedup.shingles import Grams, mixed

NUM_BANDS, ROWS = 14, 8
NUM_SHORT_BANDS, SHORT_ROWS = 28, 4
NUM_HASHES = NUM_BANDS * ROWS
assert NUM_HASHES == NUM_SHORT_BANDS * SHORT_ROWS
SHORT_GRAMS = 100  # sets below this are short
EMPTY = np.iinfo(np.uint32).max


@dataclass(frozen=True, slots=True)
class Bands:
    """Band keys of some texts.

    Attributes:
        num_grams: Grams of each text, repeats counted; int64. [num_texts]
        long_texts: Which texts have long bands; int64, ascending. [num_long]
        long_keys: uint64. [num_long, NUM_BANDS]
        short_texts: Which texts have short bands. [num_short]
        short_keys: uint64. [num_short, NUM_SHORT_BANDS]
    """

    num_grams: np.ndarray
    long_texts: np.ndarray
    long_keys: np.ndarray
    short_texts: np.ndarray
    short_keys: np.ndarray


def _constants(count: int, *, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 2**32, count, dtype=np.uint32)


# Fixed for ever: stored signatures of one corpus must fit another's. Odd multipliers make each function a permutation.
_MULTIPLIERS = _constants(NUM_HASHES, seed=0x4D696E48) | np.uint32(1)
_OFFSETS = _constants(NUM_HASHES, seed=0x61736831)


def minhashes(found: Grams) -> np.ndarray:
    """The least value of each permutation over each text's grams, uint32; EMPTY without grams. [texts, NUM_HASHES]"""
    num_texts = len(found.bounds) - 1
    signatures = np.full((NUM_HASHES, num_texts), EMPTY, dtype=np.uint32)
    filled = np.flatnonzero(np.diff(found.bounds))
    if len(filled) == 0:
        return signatures.T
    values = (found.hashes >> np.uint64(32)).astype(np.uint32)
    starts = found.bounds[filled]  # reduceat goes from one start to the next; texts without grams take up none
    permuted = np.empty_like(values)
    for row in range(NUM_HASHES):
        np.multiply(values, _MULTIPLIERS[row], out=permuted)
        permuted += _OFFSETS[row]
        signatures[row, filled] = np.minimum.reduceat(permuted, starts)
    return signatures.T


def bands(found: Grams, *, similarity: float) -> Bands:
    """Keys of long and short bands; texts near the border get both, so that no pair above ``similarity`` is kept apart by it.

    Sets whose sizes differ by more than ``similarity`` can't be that similar.
    """
    num_grams = np.diff(found.bounds)
    long_texts = np.flatnonzero(num_grams >= SHORT_GRAMS)
    short_texts = np.flatnonzero((num_grams > 0) & (num_grams < SHORT_GRAMS / similarity))
    signatures = minhashes(found)
    long_keys = band_keys(signatures[long_texts], num_bands=NUM_BANDS)
    short_keys = band_keys(signatures[short_texts], num_bands=NUM_SHORT_BANDS)
    return Bands(num_grams, long_texts, long_keys, short_texts, short_keys)


def band_keys(signatures: np.ndarray, *, num_bands: int) -> np.ndarray:
    """A hash of the rows of each band, uint64. [num_texts, num_bands]"""
    rows = np.ascontiguousarray(signatures).reshape(len(signatures), num_bands, NUM_HASHES // num_bands)  # [texts, bands, rows]
    keys = np.zeros(rows.shape[:2], dtype=np.uint64)
    for row in range(rows.shape[2]):
        keys += rows[:, :, row]
        keys = mixed(keys)
    return keys


def simhashes(found: Grams) -> np.ndarray:
    """Charikar's 64-bit SimHash over grams, each counted as often as it occurs; 0 without grams. uint64 [num_texts]"""
    num_texts = len(found.bounds) - 1
    result = np.zeros(num_texts, dtype=np.uint64)
    filled = np.flatnonzero(np.diff(found.bounds))
    if len(filled) == 0:
        return result
    counts = np.diff(found.bounds)[filled]
    for bit in range(64):
        ones = np.add.reduceat(((found.hashes >> np.uint64(bit)) & np.uint64(1)).astype(np.int64), found.bounds[filled])
        result[filled] |= (2 * ones > counts).astype(np.uint64) << np.uint64(bit)
    return result
