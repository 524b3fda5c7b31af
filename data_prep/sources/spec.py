"""What a source is, and what comes out of one: documents and rejects, in an order that depends on the input alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """One corpus; the recipe's ``sources`` section holds the same fields under the source's name.

    Attributes:
        name: Name in the recipe, and of its folder in the data directory.
        kind: A key of ``data_prep.sources.KINDS``.
        paths: Files or glob patterns, in order.
        field: Key (jsonl) or column (parquet) that holds the text.
        what: Which part of the Python installation (kind python).
        category: SFT category: math, code, logic, knowledge, commonsense.
        heldout_frac: Share of documents set aside, chosen by the hash of ``Document.group`` or the text.
        loss_on: "all" or "responses": the tokens that count in the loss (kinds with prompts and responses).
        chat_template: File with a Jinja chat template; None for the built-in one.
        prompt_variants: How often each record is written, its prompt worded by another rule each time; 0: once, as it is.
        prompt_seed: Another seed gives every prompt other wordings.
        rejects_max_frac: Share of bad records above which the job fails.
    """

    name: str
    kind: str = "jsonl"
    paths: tuple[str, ...] = ()
    field: str = "text"
    what: str | None = None
    category: str | None = None
    heldout_frac: float = 0.005
    loss_on: str = "all"
    chat_template: str | None = None
    prompt_variants: int = 0
    prompt_seed: int = 0
    rejects_max_frac: float = 0.001


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a document that is tokenized by itself, and whether its tokens count in the loss.

    ``special``: the text names one control piece (``<|im_end|>``; ``</s>`` is the end of a document whatever its spelling). A
    tokenizer without that piece encodes it as ordinary text; a segment that isn't special never gives a control piece.
    """

    text: str
    loss: bool
    special: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    Attributes:
        text: The text, whole.
        id: A name that stays the same as long as the input does.
        file: Where it came from.
        line: Line in the file from 1 (row for parquet, 0 for a whole file).
        group: Documents of one group fall on the same side of the held-out split; empty: the text decides.
        segments: The text cut where tokens must not cross (their texts join to ``text``); empty: one piece, all loss.
        meta: Anything that reports want (category, variant), never read by the binarizer.
    """

    text: str
    id: str = ""
    file: str = ""
    line: int = 0
    group: str = ""
    segments: tuple[Segment, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that gives no document: counted, written to the rejects file, and shown if it is the first of its kind.

    Attributes:
        kind: "not json", "no field", "wrong type", "not utf-8", "empty" (or what a source kind adds).
        why: One sentence.
        file: The input file.
        line: Line from 1, counted from the start of the piece that was read.
        offset: Byte offset of the record in the file (of the decompressed stream for .gz and .zst).
        start: The first bytes of the record, readable.
    """

    kind: str
    why: str
    file: str
    line: int
    offset: int = 0
    start: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one input that one worker reads; a shard is made of neighbouring pieces.

    Attributes:
        file: Path, or the source's name where there is no file.
        start: First byte (jsonl), row group (parquet); a record belongs to the piece in which it starts.
        end: One past the last.
        size_bytes: What there is to read.
    """

    file: str
    start: int
    end: int
    size_bytes: int
