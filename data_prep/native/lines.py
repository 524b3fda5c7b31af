"""The JSON-lines reader from Python: a block of lines to the texts of one field, and the keys that choose the split."""

from __future__ import annotations

import ctypes

import numpy as np

from data_prep.native.build import library
from data_prep.native.unigram import padded


class NativeJsonl:
    """Blocks of JSON lines to texts; keeps its buffers between blocks."""

    def __init__(self, *, seed: int) -> None:
        self._lib, self._seed = library(), seed
        self._blob = np.empty(0, dtype=np.uint8)
        self._offsets = np.empty(0, dtype=np.int64)
        self._keys = np.empty(0, dtype=np.uint64)
        self._odd = np.empty((0, 4), dtype=np.int64)

    def extract(self, lines: bytes, field: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """Texts of a field.

        Args:
            lines: Whole lines.
            field: The key's UTF-8 bytes.

        Returns:
            blob uint8 (padded), offsets int64 [documents + 1], split keys uint64 [documents], odd lines int64 [n, 4] of
            (start, end, line from 0, documents before), and the number of lines. Views that the next call overwrites.
        """
        raw = padded(lines)
        if len(self._blob) < len(raw):
            self._blob = np.empty(len(raw) + len(raw) // 4, dtype=np.uint8)
        # a line is a byte at least; counting them pays only where one line is huge, since untouched pages cost nothing
        most_documents = len(lines) if len(lines) <= 1 << 22 else lines.count(b"\n") + 1
        if len(self._keys) < most_documents:
            size = most_documents + most_documents // 4
            self._offsets, self._keys = np.empty(size + 1, dtype=np.int64), np.empty(size, dtype=np.uint64)
            self._odd = np.empty((size, 4), dtype=np.int64)
        counts = (ctypes.c_int64 * 3)()
        arrays = (self._blob, self._offsets, self._keys, self._odd)
        pointers = [array.ctypes.data for array in arrays]
        self._lib.wt_extract(raw.ctypes.data, len(lines), field, len(field), self._seed, *pointers, ctypes.addressof(counts))
        documents, odd, num_lines = counts[0], counts[1], counts[2]
        return self._blob, self._offsets[: documents + 1], self._keys[:documents], self._odd[:odd], num_lines


def split_keys(blob: np.ndarray, offsets: np.ndarray, *, seed: int) -> np.ndarray:
    """xxh64 of each text. uint8 [bytes], int64 [n + 1] -> uint64 [n]"""
    keys = np.empty(len(offsets) - 1, dtype=np.uint64)
    library().wt_keys(blob.ctypes.data, offsets.ctypes.data, len(keys), seed, keys.ctypes.data)
    return keys
