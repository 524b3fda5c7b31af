"""Source kind ``python``: real text from what Python itself installs, for the demo; ``what`` says which.

``stdlib_code``, ``docs`` and ``math`` give a document a module; ``doctests`` gives instruction pairs of the source's category,
rendered like any SFT corpus. ``paths`` may name other top-level packages to take. Modules are read, never imported; the
held-out split groups by module, so that a module set aside in one of these sources is set aside in all.
"""

from __future__ import annotations

from collections.abc import Iterator

from data_prep.errors import SourceError
from data_prep.sft.records import Message, Record
from data_prep.sft.render import num_wordings, render
from data_prep.sources import python_text
from data_prep.sources.python_doctests import CATEGORIES, doctest_pairs
from data_prep.sources.spec import Document, Piece, Reject, SourceSpec

TEXTS = {"stdlib_code": python_text.stdlib_code, "docs": python_text.docs, "math": python_text.math}
WHAT = (*TEXTS, "doctests")


def read(spec: SourceSpec, piece: Piece) -> Iterator[Document | Reject]:
    """The documents, in the order of packages and modules.

    Raises:
        SourceError: ``what`` is unknown, or this installation has nothing for it.
    """
    del piece  # the modules of an installation are read as one
    if spec.what not in WHAT:
        raise SourceError(f"source {spec.name}: what: {spec.what!r} is not one of {', '.join(WHAT)}")
    empty = True
    for document in _doctests(spec) if spec.what == "doctests" else _texts(spec):
        empty = False
        yield document
    if empty:
        chosen = f" in {', '.join(spec.paths)}" if spec.paths else ""
        of = f" of category {spec.category}" if spec.category else ""
        raise SourceError(f"source {spec.name}: this Python installation has no {spec.what}{of}{chosen}")


def conversations(spec: SourceSpec, piece: Piece) -> Iterator[Record]:
    """Instruction pairs before rendering (what doctests); deduplication and contamination work on these."""
    del piece
    if spec.category is not None and spec.category not in CATEGORIES:
        raise SourceError(f"source {spec.name}: category {spec.category!r} is not one of {', '.join(CATEGORIES)}")
    for pair in doctest_pairs(spec.paths, category=spec.category):
        messages = (Message("user", pair.prompt), Message("assistant", pair.response))
        yield Record(messages, id=pair.id, category=pair.category, group=pair.family, file=str(pair.file), line=pair.line)


def _doctests(spec: SourceSpec) -> Iterator[Document]:
    for epoch in range(num_wordings(spec)):  # whole passes, so that repetitions don't stand side by side
        for record in conversations(spec, Piece(spec.name, 0, 1, 0)):
            yield render(record, spec, epoch=epoch)


def _texts(spec: SourceSpec) -> Iterator[Document]:
    assert spec.what is not None
    for module, text, path in TEXTS[spec.what](spec.paths):
        yield Document(text, id=module, file=str(path), group=module)
