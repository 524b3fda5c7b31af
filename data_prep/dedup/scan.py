"""First pass over the texts: digests and band keys of each document, unit by unit; second pass: grams of the candidates."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from data_prep.atomic import write_json
from data_prep.dedup.corpus import Unit, text_blocks
from data_prep.dedup.shingles import grams
from data_prep.dedup.signature import NUM_BANDS, NUM_SHORT_BANDS, bands, simhashes
from data_prep.errors import SourceError

# Columns of a scanned unit: (name, dtype, values a row).
DIGESTS = ("digests", "<u8", 2)  # xxh3-128 of the text
NUM_GRAMS = ("num_grams", "<u4", 1)
SIMHASHES = ("simhashes", "<u8", 1)
LONG_TEXTS = ("long_texts", "<u4", 1)
SHORT_TEXTS = ("short_texts", "<u4", 1)
IDS = ("ids", "u1", 1)
ID_ENDS = ("id_ends", "<u8", 1)
GRAMS = ("grams", "<u8", 1)  # distinct and ascending for each text
GRAM_ENDS = ("gram_ends", "<u8", 1)  # of every text of the unit, so that one without grams has none
Column = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class BandSet:
    """The columns of one way of banding: which texts have it, and each band's keys in a file of its own."""

    name: str
    texts: Column
    keys: tuple[Column, ...]


def _band_set(name: str, texts: Column, num_bands: int) -> BandSet:
    return BandSet(name, texts, tuple((f"{name}_keys_{band:02d}", "<u8", 1) for band in range(num_bands)))


LONG = _band_set("long", LONG_TEXTS, NUM_BANDS)
SHORT = _band_set("short", SHORT_TEXTS, NUM_SHORT_BANDS)


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """What the first pass computes."""

    simhash: bool
    similarity: float


def load(folder: Path, column: Column) -> np.ndarray:
    """A column of a unit, mapped; 1-D, or [rows, values] where a row has several."""
    name, dtype, width = column
    path = folder / f"{name}.bin"
    if path.stat().st_size == 0:  # nothing to map
        return np.zeros((0, width) if width > 1 else 0, dtype=dtype)
    values = np.memmap(path, dtype=dtype, mode="r")
    return values.reshape(-1, width) if width > 1 else values


class _Writer:
    """Appends to the columns of a unit."""

    def __init__(self, folder: Path, columns: tuple[Column, ...], stack: ExitStack) -> None:
        self.files = {column: stack.enter_context((folder / f"{column[0]}.bin").open("wb")) for column in columns}

    def add(self, column: Column, values: np.ndarray | bytes) -> None:
        data = values if isinstance(values, bytes) else np.ascontiguousarray(values, dtype=column[1]).tobytes()
        self.files[column].write(data)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder under a temporary name, which gets its own when the block ends well: it's there whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(temporary, folder)


def scan_unit(unit: Unit, folder: Path, settings: ScanSettings) -> None:
    """Writes the columns of one unit, unless they are there."""
    if folder.is_dir():
        return
    columns: tuple[Column, ...] = (DIGESTS, NUM_GRAMS, IDS, ID_ENDS)
    columns += (SIMHASHES,) if settings.simhash else (LONG.texts, *LONG.keys, SHORT.texts, *SHORT.keys)
    num_texts, num_chars, id_bytes = 0, 0, 0
    with whole_folder(folder) as temporary, ExitStack() as stack:
        writer = _Writer(temporary, columns, stack)
        for ids, block in text_blocks(unit):
            names = [identity.encode("utf-8", "surrogatepass") for identity in ids]
            ends = id_bytes + np.cumsum([len(name) for name in names], dtype=np.uint64)
            writer.add(IDS, b"".join(names))
            writer.add(ID_ENDS, ends)
            _scan_block(block, num_texts, writer, settings)
            id_bytes, num_texts = int(ends[-1]), num_texts + len(block)
            num_chars += sum(map(len, block))
        write_json(temporary / "counts.json", {"num_texts": num_texts, "num_chars": num_chars})


def _scan_block(block: list[str], base: int, writer: _Writer, settings: ScanSettings) -> None:
    digests = b"".join(xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass")) for text in block)
    writer.add(DIGESTS, np.frombuffer(digests, dtype=">u8"))
    found = grams(block)
    writer.add(NUM_GRAMS, np.diff(found.bounds))
    if settings.simhash:
        writer.add(SIMHASHES, simhashes(found))
        return
    keys = bands(found, similarity=settings.similarity)
    for band_set, numbers, values in ((LONG, keys.long_texts, keys.long_keys), (SHORT, keys.short_texts, keys.short_keys)):
        writer.add(band_set.texts, numbers + base)
        for band, column in enumerate(band_set.keys):
            writer.add(column, values[:, band])


def gram_unit(unit: Unit, folder: Path, wanted: np.ndarray) -> None:
    """Writes the distinct grams of the wanted texts of a unit, unless they are there.

    Args:
        unit: The unit.
        folder: Where its grams go.
        wanted: Whether each text is a candidate. [num_texts]

    Raises:
        SourceError: The unit has another number of texts than the scan found.
    """
    if folder.is_dir():
        return
    position, end = 0, 0
    with whole_folder(folder) as temporary, ExitStack() as stack:
        writer = _Writer(temporary, (GRAMS, GRAM_ENDS), stack)
        for _, block in text_blocks(unit):
            chosen = wanted[position : position + len(block)]
            if len(chosen) < len(block):
                position += len(block)
                break
            found = grams([text for text, want in zip(block, chosen) if want])
            parts = [np.unique(found.hashes[start:stop]) for start, stop in zip(found.bounds[:-1], found.bounds[1:])]
            lengths = np.zeros(len(block), dtype=np.int64)
            lengths[np.asarray(chosen, dtype=bool)] = [len(part) for part in parts]
            writer.add(GRAMS, np.concatenate(parts) if parts else b"")
            writer.add(GRAM_ENDS, end + np.cumsum(lengths))
            end, position = end + int(lengths.sum()), position + len(block)
        if position != len(wanted):
            raise SourceError(f"{unit.piece.file}: it has changed since the scan ({len(wanted)} documents then); run again")
