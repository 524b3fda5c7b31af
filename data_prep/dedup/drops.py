"""Documents that tokenizing leaves out: what ``dedup`` and ``contamination`` write and the binarizer reads.

``<data_dir>/<source>/drop-<by>.npy`` holds the sorted 64-bit hashes of the documents' ids: 8 bytes a document, mapped, so that
billions need no memory. Each ``by`` has one file, replaced as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xxhash

from data_prep.atomic import replacing
from data_prep.errors import DataError

PATTERN = "drop-*.npy"


def id_hash(identity: str) -> int:
    """What stands for a document's id; the wordings of a record (``id@1``, ``id@2`` …) share its id's."""
    base, _, wording = identity.rpartition("@")
    name = base if base and wording.isdigit() else identity
    return xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass"))


class DropList:
    """The documents of one source that are left out."""

    def __init__(self, files: Iterable[Path] = ()) -> None:
        """Maps the files.

        Raises:
            DataError: A file isn't a drop list.
        """
        self._lists: list[np.ndarray] = []
        digest = hashlib.sha256()
        for path in files:
            try:
                hashes = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, EOFError, ValueError) as error:
                raise DataError(f"{path}: not a drop list: {error}; remove it and run dedup or contamination again") from error
            if hashes.dtype != np.uint64 or hashes.ndim != 1:
                raise DataError(f"{path}: not a drop list: {hashes.dtype} of {hashes.ndim} dimensions, and not sorted uint64")
            if len(hashes):
                self._lists.append(hashes)
                digest.update(memoryview(hashes))  # type: ignore[arg-type]
        self.digest = digest.hexdigest() if self._lists else ""

    @classmethod
    def load(cls, data_dir: Path | str, source: str) -> DropList:
        """The union of all drop lists of a source; empty where there is none."""
        return cls(sorted((Path(data_dir) / source).glob(PATTERN)))

    def __bool__(self) -> bool:
        return bool(self._lists)

    def __contains__(self, identity: str) -> bool:
        return bool(self._lists) and bool(self.among(np.array([id_hash(identity)], dtype=np.uint64))[0])

    def among(self, hashes: np.ndarray) -> np.ndarray:
        """Whether each ``id_hash`` is left out. uint64 [n] -> bool [n]"""
        found = np.zeros(len(hashes), dtype=bool)
        for held in self._lists:
            places = np.minimum(np.searchsorted(held, hashes), len(held) - 1)
            found |= held[places] == hashes
        return found


def write_drops(data_dir: Path | str, source: str, *, by: str, hashes: np.ndarray) -> Path:
    """Writes one source's drop list (``by``: dedup, contamination), replacing an earlier one."""
    path = Path(data_dir) / source / f"drop-{by}.npy"
    with replacing(path) as file:
        np.save(file, np.unique(np.asarray(hashes, dtype=np.uint64)), allow_pickle=False)
    return path
