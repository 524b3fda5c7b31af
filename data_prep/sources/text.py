"""Plain text: a file is a document (kind ``text``; kind ``directory`` takes every file below its folders)."""

from __future__ import annotations

from collections.abc import Iterator

from data_prep.errors import SourceError
from data_prep.sources.files import expand, is_damage, open_bytes
from data_prep.sources.spec import Document, Piece, Reject, SourceSpec

SUFFIXES = (".txt", ".md", ".rst", ".txt.gz", ".md.gz", ".rst.gz", ".txt.zst", ".md.zst", ".rst.zst")


def pieces(spec: SourceSpec, *, target_bytes: int) -> list[Piece]:
    """A piece a file, in order."""
    paths = expand(spec, suffixes=SUFFIXES if spec.kind == "text" else ())
    return [Piece(str(path), 0, 1, path.stat().st_size) for path in paths]


def read(spec: SourceSpec, piece: Piece) -> Iterator[Document | Reject]:
    """The file's one document, or its reject."""
    try:
        with open_bytes(piece.file) as file:
            raw = file.read()
    except Exception as error:
        if isinstance(error, (OSError, EOFError)) or is_damage(error):
            raise SourceError(f"{piece.file}: cannot be read: {error}") from error
        raise
    if not raw:
        yield Reject("empty", "the file is empty", piece.file, 1)
        return
    try:
        yield Document(text=raw.decode("utf-8"), id=piece.file, file=piece.file)
    except UnicodeDecodeError as bad:
        line = raw.count(b"\n", 0, bad.start) + 1
        excerpt = raw[max(0, bad.start - 40) : bad.start + 40].decode("utf-8", "backslashreplace")
        yield Reject("not utf-8", f"byte {bad.start} is no UTF-8", piece.file, line, bad.start, excerpt)
