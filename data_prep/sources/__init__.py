"""Corpora as streams of documents: one module a kind, found by name in ``KINDS`` and imported when needed.

A kind's module has ``read(spec, piece) -> Iterator[Document | Reject]`` and, if its input can be read in parts,
``pieces(spec, *, target_bytes) -> list[Piece]``. The order of pieces and of documents depends on the input alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

from data_prep.dedup.drops import DropList
from data_prep.errors import SourceError
from data_prep.sources.block import Block, from_documents
from data_prep.sources.spec import Document, Piece, Reject, Segment, SourceSpec

__all__ = [
    "KINDS",
    "Block",
    "Document",
    "Piece",
    "Reject",
    "Segment",
    "SourceSpec",
    "blocks",
    "documents",
    "kind_module",
    "pieces",
    "read",
]

KINDS = {
    "jsonl": "data_prep.sources.jsonl",
    "parquet": "data_prep.sources.parquet",
    "text": "data_prep.sources.text",
    "directory": "data_prep.sources.text",
    "python": "data_prep.sources.python",
    "sft": "data_prep.sft.source",
}
WHOLE = 1 << 62  # bytes: one piece a file


def kind_module(spec: SourceSpec) -> ModuleType:
    """The module of the source's kind; raises SourceError for a kind that is not there."""
    if spec.kind not in KINDS:
        raise SourceError(f"source {spec.name}: kind {spec.kind!r} is not one of {', '.join(KINDS)}")
    return importlib.import_module(KINDS[spec.kind])


def pieces(spec: SourceSpec, *, target_bytes: int = WHOLE) -> list[Piece]:
    """The parts of the input, in order, each of about ``target_bytes`` where the kind can be split."""
    module = kind_module(spec)
    if hasattr(module, "pieces"):
        return module.pieces(spec, target_bytes=target_bytes)
    return [Piece(file=spec.name, start=0, end=1, size_bytes=0)]


def read(spec: SourceSpec, piece: Piece) -> Iterator[Document | Reject]:
    """Everything one piece holds, in order: written or rejected, nothing left out."""
    return kind_module(spec).read(spec, piece)


def blocks(spec: SourceSpec, piece: Piece, *, fast: bool, drops: DropList | None = None) -> Iterator[Block]:
    """What ``read`` gives, in blocks; by the kind's compiled reader (``fast_blocks``) where asked for and there."""
    module = kind_module(spec)
    if fast and hasattr(module, "fast_blocks"):
        return module.fast_blocks(spec, piece, drops=drops)
    return from_documents(module.read(spec, piece), drops=drops)


def documents(spec: SourceSpec) -> Iterator[Document]:
    """The documents of a source in order, without the rejects (the binarizer counts those)."""
    for piece in pieces(spec):
        for item in read(spec, piece):
            if isinstance(item, Document):
                yield item
