"""A record of an SFT corpus as one document: varied prompt, chat template, segments with their loss."""

from __future__ import annotations

from data_prep.sft.records import Record
from data_prep.sft.template import load_template
from data_prep.sft.variants import vary
from data_prep.sources.spec import Document, Segment, SourceSpec


def render(record: Record, spec: SourceSpec, *, epoch: int = 0) -> Document:
    """The document that training sees.

    Args:
        record: The conversation.
        spec: Its source: ``chat_template``, ``prompt_variants``, ``prompt_seed``, ``loss_on``.
        epoch: Which repetition of the record this is; another wording of the prompt each.

    Raises:
        TemplateError: The template fails or rewrites contents.
    """
    variant = ""
    if spec.prompt_variants:
        record, variant = vary(record, epoch=epoch, seed=spec.prompt_seed)
    segments = load_template(spec.chat_template).render(record.messages)
    if spec.loss_on == "all":
        segments = tuple(Segment(segment.text, True, segment.special) for segment in segments)
    meta = {"category": record.category, "variant": variant}
    identity = record.id if epoch == 0 else f"{record.id}@{epoch}"
    text = "".join(segment.text for segment in segments)
    return Document(text, id=identity, file=record.file, line=record.line, group=record.group, segments=segments, meta=meta)


def num_wordings(spec: SourceSpec) -> int:
    """How often each record is written, each time worded differently; 1 without variation."""
    return max(1, spec.prompt_variants)
