"""JSON lines, plain, .gz or .zst: one record a line. Plain files are read in byte ranges: one huge file is many tasks.

What counts as JSON is what orjson takes: strict UTF-8, no NaN, no lone surrogates; the last of equal keys wins.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from data_prep.dedup.drops import DropList, id_hash
from data_prep.errors import SourceError
from data_prep.native.lines import NativeJsonl
from data_prep.sources.block import MAX_REJECTS, SPLIT_SEED, Block, from_documents
from data_prep.sources.files import COMPRESSED, ahead, expand, line_blocks
from data_prep.sources.spec import Document, Piece, Reject, SourceSpec

SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst", ".ndjson")
BLOCK_BYTES = 1 << 20


def pieces(spec: SourceSpec, *, target_bytes: int) -> list[Piece]:
    """Byte ranges of about ``target_bytes`` (compressed files whole): equal cuts, so that none is a small rest."""
    cut = [piece for path in expand(spec, suffixes=SUFFIXES) for piece in file_pieces(path, target_bytes=target_bytes)]
    if not cut:
        raise SourceError(f"source {spec.name}: no {', '.join(SUFFIXES)} file in {', '.join(spec.paths)}")
    return cut


def file_pieces(path: Path, *, target_bytes: int) -> list[Piece]:
    """The byte ranges of one file."""
    size = path.stat().st_size
    parts = 1 if path.name.endswith(COMPRESSED) else max(1, round(size / target_bytes))
    bounds = [size * part // parts for part in range(parts + 1)]
    whole = size if parts > 1 else max(size, 1 << 62)  # a compressed file's end is not known before it is read
    ends = [*bounds[1:-1], whole]
    return [Piece(str(path), start, end, min(end, size) - start) for start, end in zip(bounds[:-1], ends, strict=True)]


def read(spec: SourceSpec, piece: Piece) -> Iterator[Document | Reject]:
    """Documents and rejects of one byte range, in order."""
    for line, offset, record in lines(piece):
        yield document(spec.field, record, file=piece.file, line=line, offset=offset)


def fast_blocks(spec: SourceSpec, piece: Piece, *, drops: DropList | None = None) -> Iterator[Block]:
    """The same documents and rejects as ``read`` gives, in blocks, by the compiled reader; odd lines go through orjson.

    A block's arrays are overwritten by the next.
    """
    reader = NativeJsonl(seed=SPLIT_SEED)
    field, line = spec.field.encode("utf-8"), 0
    for offset, raw in ahead(line_blocks(piece.file, start=piece.start, end=piece.end, block_bytes=BLOCK_BYTES)):
        blob, offsets, keys, odd, num_lines = reader.extract(raw, field)
        dropped = _dropped(piece.file, offset, raw, odd[:, 2], drops) if drops else None
        done, rejects = 0, []
        for start, end, number, documents in itertools.chain.from_iterable(_thousands(odd)):
            item = document(spec.field, raw[start:end], file=piece.file, line=line + number + 1, offset=offset + start)
            if isinstance(item, Reject):
                rejects.append(item)
                if len(rejects) < MAX_REJECTS:
                    continue
            gone = _part(dropped, done, documents)
            yield Block(blob, offsets[done : documents + 1], keys[done:documents], rejects=rejects, dropped=gone)
            if isinstance(item, Document):
                yield from from_documents([item], drops=drops)
            done, rejects = documents, []
        yield Block(blob, offsets[done:], keys[done:], rejects=rejects, dropped=_part(dropped, done, None))
        line += num_lines


def _thousands(odd: np.ndarray) -> Iterator[list[list[int]]]:
    """The rows as Python's numbers, some at a time: a megabyte may be a million blank lines."""
    return (odd[start : start + MAX_REJECTS].tolist() for start in range(0, len(odd), MAX_REJECTS))


def _dropped(file: str, offset: int, raw: bytes, odd_lines: np.ndarray, drops: DropList) -> np.ndarray:
    """Whether each document of a block of lines is dropped; every line that isn't odd is one. bool [documents]"""
    ends = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) == ord("\n")) + 1
    starts = np.concatenate(([0], ends))
    starts = np.delete(starts[starts < len(raw)], odd_lines)
    ids = [id_hash(f"{file}:{offset + start}") for start in starts.tolist()]
    return drops.among(np.array(ids, dtype=np.uint64))


def _part(flags: np.ndarray | None, start: int, end: int | None) -> np.ndarray | None:
    return None if flags is None else flags[start:end]


def records(spec: SourceSpec, piece: Piece) -> Iterator[tuple[int, int, dict[str, Any]] | Reject]:
    """(line, offset, object) of one byte range, for kinds that build documents from several fields."""
    for line, offset, raw in lines(piece):
        value = parse(raw, file=piece.file, line=line, offset=offset)
        yield value if isinstance(value, Reject) else (line, offset, value)


def lines(piece: Piece) -> Iterator[tuple[int, int, bytes]]:
    """(line from 1 within the piece, byte offset, bytes without the newline)."""
    number = 0
    for offset, block in line_blocks(piece.file, start=piece.start, end=piece.end, block_bytes=BLOCK_BYTES):
        position = offset
        for raw in block.split(b"\n"):  # a bare carriage return is no line end
            if position == offset + len(block):
                break  # what follows the last newline is nothing
            number += 1
            yield number, position, raw
            position += len(raw) + 1


def parse(raw: bytes, *, file: str, line: int, offset: int) -> dict[str, Any] | Reject:
    """One line to its object, or the reject that says what is wrong with it."""

    def reject(kind: str, why: str) -> Reject:
        return Reject(kind, why, file, line, offset, raw[:80].decode("utf-8", "backslashreplace"))

    if offset == 0:
        raw = raw.removeprefix(codecs.BOM_UTF8)  # a mark of the file, no part of its first record
    if not raw.strip():
        return reject("empty", "the line is blank")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as bad:
            return reject("not utf-8", f"byte {bad.start} of the line is no UTF-8")
        return reject("not json", str(error))
    if not isinstance(value, dict):
        return reject("wrong type", f"the line is a {type(value).__name__}, not an object")
    return value


def document(field: str, raw: bytes, *, file: str, line: int, offset: int) -> Document | Reject:
    """One line to a document, or the reject that says what is wrong with it."""
    value = parse(raw, file=file, line=line, offset=offset)
    if isinstance(value, Reject):
        return value
    text = value.get(field)
    if isinstance(text, str) and text:
        return Document(text=text, id=f"{file}:{offset}", file=file, line=line)
    start = raw[:80].decode("utf-8", "backslashreplace")
    if field not in value:
        nearest = ", ".join(sorted(value)[:8])
        return Reject("no field", f"no field {field!r}; there are: {nearest}", file, line, offset, start)
    if text == "":
        return Reject("empty", f"field {field!r} is empty", file, line, offset, start)
    return Reject("wrong type", f"field {field!r} is a {type(text).__name__}, not a string", file, line, offset, start)
