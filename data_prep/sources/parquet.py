"""Parquet: one string column, read by row groups (a file is split between workers at them)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_prep.dedup.drops import DropList, id_hash
from data_prep.errors import SourceError
from data_prep.native.build import PAD_BYTES
from data_prep.native.lines import split_keys
from data_prep.sources.block import BLOCK_BYTES, SPLIT_SEED, Block, from_documents
from data_prep.sources.files import ahead, expand
from data_prep.sources.spec import Document, Piece, Reject, SourceSpec

MAX_ROWS = 16_384  # a batch


def pieces(spec: SourceSpec, *, target_bytes: int) -> list[Piece]:
    """Runs of row groups of about ``target_bytes`` of the text column, compressed."""
    cut: list[Piece] = []
    for path in expand(spec, suffixes=(".parquet",)):
        metadata = _open(str(path)).metadata
        column = _column(spec, path, metadata)
        start, size = 0, 0
        for group in range(metadata.num_row_groups):
            size += metadata.row_group(group).column(column).total_compressed_size
            if size >= target_bytes or group == metadata.num_row_groups - 1:
                cut.append(Piece(str(path), start, group + 1, size))
                start, size = group + 1, 0
    return cut


def _open(path: str):
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20)  # pages as they are needed, not whole column chunks
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a readable Parquet file: {error}") from error


def _column(spec: SourceSpec, path: object, metadata) -> int:
    """Position of the text column; raises SourceError if it is missing or is no string."""
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if spec.field not in names:
        raise SourceError(f"{path}: no column {spec.field!r}; there are: {', '.join(names[:12])}")
    position = names.index(spec.field)
    if metadata.schema.column(position).physical_type != "BYTE_ARRAY":
        raise SourceError(
            f"{path}: column {spec.field!r} holds {metadata.schema.column(position).physical_type}, not text"
        )
    return position


def batches(spec: SourceSpec, piece: Piece) -> Iterator[tuple[int, object]]:
    """(first row within the file, pyarrow BinaryArray or LargeBinaryArray) of the text column, about BLOCK_BYTES each."""
    import pyarrow

    try:
        file = _open(piece.file)
        column = _column(spec, piece.file, file.metadata)
        row = sum(file.metadata.row_group(group).num_rows for group in range(piece.start))
        for group in range(piece.start, piece.end):
            facts = file.metadata.row_group(group)
            num_rows = max(1, facts.num_rows * BLOCK_BYTES // max(1, facts.column(column).total_uncompressed_size))
            read = file.iter_batches(min(num_rows, MAX_ROWS), row_groups=[group], columns=[spec.field], use_threads=False)
            for batch in read:
                texts = batch.column(0)
                large = pyarrow.types.is_large_string(texts.type) or pyarrow.types.is_large_binary(texts.type)
                yield row, texts.cast(pyarrow.large_binary() if large else pyarrow.binary())
                row += len(texts)
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(
            f"{piece.file}: cannot be read in row groups {piece.start} to {piece.end}: {error}"
        ) from error


def read(spec: SourceSpec, piece: Piece) -> Iterator[Document | Reject]:
    """Documents and rejects of some row groups, in order; ``line`` is the row."""
    for first, column in batches(spec, piece):
        for row, raw in enumerate(column.to_pylist(), start=first):  # type: ignore[attr-defined]
            yield cell(spec, piece, row, raw)


def fast_blocks(spec: SourceSpec, piece: Piece, *, drops: DropList | None = None) -> Iterator[Block]:
    """The same documents and rejects as ``read`` gives, in blocks: the column's own bytes, no Python object a row."""
    for first, column in ahead(batches(spec, piece)):
        texts = _texts(column)
        if texts is None:
            cells = enumerate(column.to_pylist(), start=first)  # type: ignore[attr-defined]
            yield from from_documents((cell(spec, piece, row, raw) for row, raw in cells), drops=drops)
            continue
        blob, offsets = texts
        lengths = np.diff(offsets)
        odd, kept = np.flatnonzero(lengths == 0), np.flatnonzero(lengths)
        rejects = [cell(spec, piece, first + row, column[row].as_py()) for row in odd.tolist()]  # type: ignore[index]
        offsets = np.append(offsets[kept], offsets[-1])
        dropped = None
        if drops:
            ids = [id_hash(f"{piece.file}:{first + row}") for row in kept.tolist()]
            dropped = drops.among(np.array(ids, dtype=np.uint64))
        keys = split_keys(blob, offsets, seed=SPLIT_SEED)
        yield Block(blob, offsets, keys, rejects=rejects, dropped=dropped)  # type: ignore[arg-type]


def _texts(column) -> tuple[np.ndarray, np.ndarray] | None:
    """A column's bytes (padded) and int64 offsets [rows + 1]; None where it holds what is no UTF-8, or bytes of nulls."""
    import pyarrow

    large = pyarrow.types.is_large_binary(column.type)
    try:
        column.cast(pyarrow.large_string() if large else pyarrow.string())  # checks the encoding
    except pyarrow.ArrowInvalid:
        return None
    _, places, data = column.buffers()
    width = np.int64 if large else np.int32
    offsets = np.frombuffer(places, dtype=width)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    if column.null_count and int(np.diff(offsets)[column.is_null().to_numpy(zero_copy_only=False)].sum()):
        return None
    used = b"" if data is None else memoryview(data)[int(offsets[0]) : int(offsets[-1])]
    blob = np.zeros(len(used) + PAD_BYTES, dtype=np.uint8)
    blob[: len(used)] = np.frombuffer(used, dtype=np.uint8)
    return blob, offsets - offsets[0]


def cell(spec: SourceSpec, piece: Piece, row: int, raw: bytes | None) -> Document | Reject:
    """One cell to a document, or what is wrong with it."""
    place = (piece.file, row + 1, row)
    if raw is None:
        return Reject("wrong type", f"column {spec.field!r} is null", *place)
    if not raw:
        return Reject("empty", f"column {spec.field!r} is empty", *place)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as bad:
        return Reject(
            "not utf-8", f"byte {bad.start} is no UTF-8", *place, raw[:80].decode("utf-8", "backslashreplace")
        )
    return Document(text=text, id=f"{piece.file}:{row}", file=piece.file, line=row + 1)
