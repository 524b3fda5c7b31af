"""Documents in blocks of a megabyte or so: the unit that is read, encoded and written, whatever the source kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import xxhash

from data_prep.dedup.drops import DropList
from data_prep.sources.spec import Document, Reject

BLOCK_BYTES = 1 << 20
MAX_REJECTS = 1000  # a block
SPLIT_SEED = 0x57494E44  # of the hash that chooses held-out documents; another seed is another split


@dataclass
class Block:
    """Some documents in order, as one run of bytes, and what was rejected between them.

    Attributes:
        blob: UTF-8 texts, end to end. A document with segments is several texts.
        offsets: Where each text starts, and the end, int64. [num_texts + 1]
        keys: xxh64 of each document's group or text; chooses the split. [num_documents]
        first_text: The first text of each document, and num_texts, int64; None where each document is one text.
        loss: Whether each text counts in the loss; None where all do. [num_texts]
        special: Texts that may stand for one control piece: {position: name}.
        rejects: Records that gave no document.
        dropped: Documents that a drop list names; None where it names none of the source. [num_documents]
    """

    blob: bytes | np.ndarray
    offsets: np.ndarray
    keys: np.ndarray
    first_text: np.ndarray | None = None
    loss: np.ndarray | None = None
    special: dict[int, str] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    dropped: np.ndarray | None = None

    @property
    def num_documents(self) -> int:
        return len(self.keys)

    @property
    def text_bytes(self) -> np.ndarray:
        """UTF-8 bytes of each document, int64. [num_documents]"""
        starts = self.offsets if self.first_text is None else self.offsets[self.first_text]
        return np.diff(starts)

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return int(self.offsets[-1] - self.offsets[0])

    def texts(self) -> list[bytes]:
        """Each text by itself."""
        view = memoryview(self.blob)  # type: ignore[arg-type]  # numpy says so from Python 3.12 on
        bounds = self.offsets.tolist()
        return [bytes(view[start:end]) for start, end in itertools.pairwise(bounds)]


def split_key(text: bytes) -> int:
    """The number below 2^64 that decides on which side of the held-out split a document falls."""
    return xxhash.xxh64_intdigest(text, SPLIT_SEED)


def heldout_limit(heldout_frac: float) -> int:
    """Documents whose key is below this are held out."""
    return int(heldout_frac * 2**64)


def from_documents(items: Iterable[Document | Reject], *, drops: DropList | None = None) -> Iterator[Block]:
    """Gathers documents and rejects into blocks of about BLOCK_BYTES."""
    gathered = _Gathered(drops)
    for item in items:
        gathered.add(item)
        if gathered.size_bytes >= BLOCK_BYTES or len(gathered.rejects) >= MAX_REJECTS:
            yield gathered.block()
            gathered = _Gathered(drops)
    yield gathered.block()


class _Gathered:
    """A block that is being filled."""

    def __init__(self, drops: DropList | None) -> None:
        self.drops = drops or None  # an empty list costs nothing
        self.dropped: list[bool] = []
        self.texts: list[bytes] = []
        self.keys: list[int] = []
        self.first_text: list[int] = []
        self.loss: list[bool] = []
        self.special: dict[int, str] = {}
        self.rejects: list[Reject] = []
        self.size_bytes = 0

    def add(self, item: Document | Reject) -> None:
        if isinstance(item, Reject):
            self.rejects.append(item)
            return
        try:
            text = item.text.encode("utf-8")
        except UnicodeEncodeError as error:  # a lone surrogate is no text
            self.rejects.append(Reject("not utf-8", f"character {error.start}: {error.reason}", item.file, item.line))
            return
        self.size_bytes += len(text)
        self.first_text.append(len(self.texts))
        self.keys.append(split_key(item.group.encode("utf-8", "surrogatepass") if item.group else text))
        if self.drops:
            self.dropped.append(item.id in self.drops)
        if not item.segments:
            self.texts.append(text)
            self.loss.append(True)
            return
        for segment in item.segments:
            if segment.special:
                self.special[len(self.texts)] = segment.text
            self.texts.append(segment.text.encode("utf-8"))
            self.loss.append(segment.loss)

    def block(self) -> Block:
        lengths = np.fromiter((len(text) for text in self.texts), np.int64, len(self.texts))
        plain = len(self.texts) == len(self.keys)
        return Block(
            blob=b"".join(self.texts),
            offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            keys=np.array(self.keys, dtype=np.uint64),
            first_text=None if plain else np.array([*self.first_text, len(self.texts)], dtype=np.int64),
            loss=None if all(self.loss) else np.array(self.loss, dtype=bool),
            special=self.special,
            rejects=self.rejects,
            dropped=np.array(self.dropped, dtype=bool) if self.drops else None,
        )
