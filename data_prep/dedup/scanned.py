"""The scanned units as one table over all documents' numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from data_prep.dedup.scan import DIGESTS, GRAM_ENDS, GRAMS, ID_ENDS, IDS, BandSet, Column, load


class Scanned:
    """Columns by document number. Everything is mapped from files: cheap to open in any worker."""

    def __init__(self, folders: Sequence[Path], *, gram_folders: Sequence[Path] = ()) -> None:
        self.folders, self.gram_folders = list(folders), list(gram_folders)
        counts = [json.loads((folder / "counts.json").read_text()) for folder in self.folders]
        self.num_chars = [int(count["num_chars"]) for count in counts]
        self.bases = np.concatenate(([0], np.cumsum([count["num_texts"] for count in counts], dtype=np.int64)))
        self._maps: dict[tuple[str, int, str], np.ndarray] = {}

    @property
    def num_documents(self) -> int:
        return int(self.bases[-1])

    def unit_of(self, number: int) -> int:
        """The unit that holds a document."""
        return int(np.searchsorted(self.bases, number, "right")) - 1

    def column(self, unit: int, column: Column, *, of_grams: bool = False) -> np.ndarray:
        """A unit's column, mapped and kept."""
        key = ("grams" if of_grams else "scan", unit, column[0])
        if key not in self._maps:
            folder = (self.gram_folders if of_grams else self.folders)[unit]
            self._maps[key] = load(folder, column)
        return self._maps[key]

    def gather(self, column: Column, numbers: np.ndarray) -> np.ndarray:
        """Rows of a column that has one for each document."""
        numbers = np.asarray(numbers, dtype=np.int64)
        owners = np.searchsorted(self.bases, numbers, "right") - 1
        shape = (len(numbers), column[2]) if column[2] > 1 else len(numbers)
        values = np.empty(shape, dtype=column[1])
        for unit in np.unique(owners).tolist():
            mine = owners == unit
            values[mine] = self.column(unit, column)[numbers[mine] - self.bases[unit]]
        return values

    def band_rows(self, band_set: BandSet, band: int) -> Iterator[np.ndarray]:
        """(key, number) rows of one band, a unit at a time; uint64 [n, 2]"""
        for unit, base in enumerate(self.bases[:-1].tolist()):
            numbers = load(self.folders[unit], band_set.texts).astype(np.uint64) + np.uint64(base)
            yield np.stack((load(self.folders[unit], band_set.keys[band]), numbers), axis=1)

    def band_keys(self, band_set: BandSet, band: int, numbers: np.ndarray) -> np.ndarray:
        """Keys of one band for documents that have it."""
        numbers = np.asarray(numbers, dtype=np.int64)
        owners = np.searchsorted(self.bases, numbers, "right") - 1
        keys = np.empty(len(numbers), dtype=np.uint64)
        for unit in np.unique(owners).tolist():
            mine = owners == unit
            rows = np.searchsorted(self.column(unit, band_set.texts), numbers[mine] - self.bases[unit])
            keys[mine] = self.column(unit, band_set.keys[band])[rows]
        return keys

    def digest_order(self, numbers: np.ndarray) -> np.ndarray:
        """Positions of the documents in the order of their digests: by content, whatever their numbers."""
        digests = self.gather(DIGESTS, numbers)
        return np.lexsort((digests[:, 1], digests[:, 0]))

    def identity(self, number: int) -> str:
        """A document's id."""
        unit = self.unit_of(number)
        row = number - int(self.bases[unit])
        ends, names = self.column(unit, ID_ENDS), self.column(unit, IDS)
        start = int(ends[row - 1]) if row else 0
        return names[start : int(ends[row])].tobytes().decode("utf-8", "surrogatepass")

    @cached_property
    def _gram_bases(self) -> list[int]:
        return self.bases.tolist()

    def grams(self, number: int) -> np.ndarray:
        """The distinct grams of a candidate, ascending."""
        unit = self.unit_of(number)
        row = number - self._gram_bases[unit]
        ends = self.column(unit, GRAM_ENDS, of_grams=True)
        start = int(ends[row - 1]) if row else 0
        return self.column(unit, GRAMS, of_grams=True)[start : int(ends[row])]
