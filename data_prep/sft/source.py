"""Source kind ``sft``: JSONL or Parquet records of instruction data, each rendered into a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_prep.errors import SourceError
from data_prep.sft.records import Record, RecordError, conversation
from data_prep.sft.render import num_wordings, render
from data_prep.sft.template import TemplateError, load_template
from data_prep.sources import jsonl
from data_prep.sources.files import expand
from data_prep.sources.spec import Document, Piece, Reject, SourceSpec

SUFFIXES = (*jsonl.SUFFIXES, ".parquet")
BATCH_ROWS = 1024


def pieces(spec: SourceSpec, *, target_bytes: int) -> list[Piece]:
    """Byte ranges of JSONL files; Parquet files whole (instruction data is small)."""
    load_template(spec.chat_template)  # a bad template is found before any work
    cut: list[Piece] = []
    for path in expand(spec, suffixes=SUFFIXES):
        if path.suffix == ".parquet":
            cut.append(Piece(str(path), 0, 1, path.stat().st_size))
        else:
            cut += jsonl.file_pieces(path, target_bytes=target_bytes)
    return cut


def read(spec: SourceSpec, piece: Piece) -> Iterator[Document | Reject]:
    """Documents and rejects of one piece, in order; with ``prompt_variants`` N the piece N times, worded differently."""
    for epoch in range(num_wordings(spec)):
        for item in rows(spec, piece):
            if isinstance(item, Reject):
                if epoch == 0:
                    yield item
                continue
            try:
                yield render(item, spec, epoch=epoch)
            except TemplateError as error:
                yield Reject("template", str(error), item.file, item.line, 0, item.payload[:80])


def conversations(spec: SourceSpec, piece: Piece) -> Iterator[Record]:
    """The conversations of one piece before rendering, bad ones left out (``read`` counts those)."""
    return (item for item in rows(spec, piece) if isinstance(item, Record))


def rows(spec: SourceSpec, piece: Piece) -> Iterator[Record | Reject]:
    """Every row of one piece: a conversation, or why it is none."""
    raw_rows = _parquet_rows(piece) if piece.file.endswith(".parquet") else jsonl.records(spec, piece)
    for item in raw_rows:
        if isinstance(item, Reject):
            yield item
            continue
        line, offset, row = item
        try:
            yield _record(spec, row, file=piece.file, line=line, identity=f"{piece.file}:{offset}")
        except RecordError as error:
            yield Reject(error.kind, str(error), piece.file, line, offset, repr(row)[:80])


def _record(spec: SourceSpec, row: dict[str, Any], *, file: str, line: int, identity: str) -> Record:
    """One row.

    The split's group is the row's ``group``, ``source_id`` or ``family`` where it has one, else the prompt, so that several
    answers to one prompt stay together.
    """
    messages = conversation(row)
    category = row.get("category") or spec.category or ""
    group = next((str(row[key]) for key in ("group", "source_id", "family") if row.get(key)), "")
    if not group:
        group = next((message.content for message in messages if message.role == "user"), "")
    return Record(messages, id=identity, category=str(category), group=group, file=file, line=line)


def _parquet_rows(piece: Piece) -> Iterator[tuple[int, int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    line = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(piece.file).iter_batches(BATCH_ROWS, use_threads=False):
            for row in batch.to_pylist():
                line += 1
                yield line, line - 1, {key: value for key, value in row.items() if value is not None}
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{piece.file}: not a readable Parquet file (row {line}): {error}") from error
