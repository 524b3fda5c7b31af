"""What is compared: every document of every source by number, in an order that doesn't depend on how the sources are listed.

Instruction data is compared before rendering, by prompt and answer: a template's words would make different items alike.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep.errors import SourceError
from data_prep.sources import Document, Piece, SourceSpec, kind_module, pieces, read

BLOCK_CHARS = 1 << 20  # text that is handled at a time
UNIT_BYTES = 256 << 20  # of input: what one worker reads at a time, and what a killed run does again
DECISIVE = ("name", "kind", "field", "what", "category", "paths")  # of a source: what its texts depend on beside its files


@dataclass(frozen=True, slots=True)
class Unit:
    """A stretch of one source; units in order give the documents' numbers."""

    spec: SourceSpec
    piece: Piece


def units(specs: Sequence[SourceSpec], *, unit_bytes: int = UNIT_BYTES) -> list[Unit]:
    """All parts of all sources, sorted by source name, file and place.

    Raises:
        SourceError: Two sources have one name, or there is none.
    """
    names = [spec.name for spec in specs]
    if not specs or len(set(names)) != len(names):
        raise SourceError(f"sources need different names, and at least one is needed; there are: {', '.join(names) or 'none'}")
    found = [Unit(spec, piece) for spec in specs for piece in pieces(spec, target_bytes=unit_bytes)]
    return sorted(found, key=lambda unit: (unit.spec.name, unit.piece.file, unit.piece.start))


def has_conversations(spec: SourceSpec) -> bool:
    """Whether the source holds instruction data."""
    return spec.kind == "sft" or (spec.kind == "python" and spec.what == "doctests")


def texts(unit: Unit) -> Iterator[tuple[str, str]]:
    """(id, text) of each document of a unit; instruction data as its payload, records that give no document left out."""
    if has_conversations(unit.spec):
        for record in kind_module(unit.spec).conversations(unit.spec, unit.piece):
            yield record.id, record.payload
        return
    for item in read(unit.spec, unit.piece):
        if isinstance(item, Document):
            yield item.id, item.text


def text_blocks(unit: Unit) -> Iterator[tuple[list[str], list[str]]]:
    """The unit's ids and texts, about BLOCK_CHARS of text at a time."""
    ids: list[str] = []
    block: list[str] = []
    size = 0
    for identity, text in texts(unit):
        ids.append(identity)
        block.append(text)
        size += len(text)
        if size >= BLOCK_CHARS:
            yield ids, block
            ids, block, size = [], [], 0
    if block:
        yield ids, block


def fingerprint(all_units: Sequence[Unit], settings: dict[str, object]) -> str:
    """Digest of what the result depends on: settings, sources, and the files' sizes and times. 12 hex digits."""
    facts: list[object] = [settings]
    for unit in all_units:
        facts.append({key: value for key, value in asdict(unit.spec).items() if key in DECISIVE})
        facts.append([unit.piece.file, unit.piece.start, unit.piece.end])
        if Path(unit.piece.file).is_file():
            status = Path(unit.piece.file).stat()
            facts.append([status.st_size, status.st_mtime_ns])
    if any(unit.spec.kind == "python" for unit in all_units):
        versions = {distribution.name: distribution.version for distribution in importlib.metadata.distributions()}
        facts.append([sys.version, sorted(versions.items())])
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]
