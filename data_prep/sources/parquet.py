"""Parquet: one string column, read by row groups (a file is split between workers at them)."""

from __future__ import annotations

from collections.abc import Iterator

from data_prep.errors import SourceError
from data_prep.sources.files import expand
from data_prep.sources.spec import Document, Piece, Reject, SourceSpec

BATCH_ROWS = 1024


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
        return pyarrow.parquet.ParquetFile(path)
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
    """(first row within the file, pyarrow BinaryArray or LargeBinaryArray) of the text column."""
    import pyarrow

    try:
        file = _open(piece.file)
        row = sum(file.metadata.row_group(group).num_rows for group in range(piece.start))
        groups = list(range(piece.start, piece.end))
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=[spec.field], use_threads=False):
            column = batch.column(0)
            large = pyarrow.types.is_large_string(column.type) or pyarrow.types.is_large_binary(column.type)
            yield row, column.cast(pyarrow.large_binary() if large else pyarrow.binary())
            row += len(column)
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(
            f"{piece.file}: cannot be read in row groups {piece.start} to {piece.end}: {error}"
        ) from error


def read(spec: SourceSpec, piece: Piece) -> Iterator[Document | Reject]:
    """Documents and rejects of some row groups, in order; ``line`` is the row."""
    for first, column in batches(spec, piece):
        for row, raw in enumerate(column.to_pylist(), start=first):  # type: ignore[attr-defined]
            yield cell(spec, piece, row, raw)


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
