"""Chat templates: messages -> segments, with the loss known for each, contents kept apart from the template's own text.

The template runs twice in jinja2's sandbox: once on the contents, once on placeholders. The second result, cut at the
placeholders, says which text is whose; joined again it must equal the first, else the template rewrites contents in a way
that can't be followed and is refused. (transformers' ``return_assistant_tokens_mask`` looks for offsets in the rendered text
instead, and fails on several templates: its issues 34172 and 47325.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from data_prep.errors import SourceError
from data_prep.sft.records import Message
from data_prep.sources.spec import Segment

# Unicode noncharacters frame placeholders and generation blocks: nothing else of the placeholder pass can hold them.
OPEN, CLOSE, GENERATION_START, GENERATION_END = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3"
END = "</s>"  # what templates get as eos_token; see Segment.special
_PARTS = re.compile(f"({OPEN}[0-9]+[slr]*{CLOSE}|{GENERATION_START}|{GENERATION_END})")
_SLOT = re.compile(f"{OPEN}([0-9]+)([slr]*){CLOSE}")
# Text of the template that names one token of the tokenizer, if it has such a control piece.
SPECIAL = re.compile(r"(<\|[^|<>\s]+\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>)")


class TemplateError(SourceError):
    """A chat template is malformed, refuses the messages, or rewrites their contents."""


class _Slot(str):
    """Stands for a message's content; remembers that the template strips it."""

    def strip(self, *args: Any) -> str:
        return self._with("s", args)

    def lstrip(self, *args: Any) -> str:
        return self._with("l", args)

    def rstrip(self, *args: Any) -> str:
        return self._with("r", args)

    def _with(self, operation: str, args: tuple[Any, ...]) -> str:
        if any(arg is not None for arg in args):
            return ""  # other characters than white space: can't be followed, the comparison will refuse it
        return _Slot(f"{self[:-1]}{operation}{CLOSE}")


class _Generation(Extension):
    """``{% generation %}…{% endgeneration %}``: what the model is to say, as transformers' templates mark it."""

    tags = {"generation"}  # noqa: RUF012  # as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        start, end = (GENERATION_START, GENERATION_END) if getattr(self.environment, "marks", False) else ("", "")
        return [_literal(start, line), *body, _literal(end, line)]


def _literal(text: str, line: int) -> nodes.Node:
    return nodes.Output([nodes.TemplateData(text)], lineno=line)


class ChatTemplate:
    """A compiled template; ``render`` gives the segments of a conversation."""

    def __init__(self, source: str, *, name: str) -> None:
        """Compiles.

        Args:
            source: Jinja text; it sees ``messages`` and ``add_generation_prompt``.
            name: For error messages.

        Raises:
            TemplateError: The text isn't a Jinja template.
        """
        self.name = name
        try:
            self._plain = _environment(marks=False).from_string(source)
            self._marked = _environment(marks=True).from_string(source)
        except JinjaError as error:
            raise TemplateError(f"chat template {name}: {error}") from error
        self.has_generation = bool(re.search(r"{%-?\s*generation\b", source))

    def render(self, messages: Sequence[Message]) -> tuple[Segment, ...]:
        """Segments in order; contents and template text never share one.

        Loss: generation blocks where the template has them, else the assistant's contents and the special piece that ends
        the turn (the model must learn to stop).

        Raises:
            TemplateError: The template fails, or changes contents.
        """
        contents = [message.content for message in messages]
        slots = [_Slot(f"{OPEN}{index}{CLOSE}") for index in range(len(messages))]
        whole = self._run(self._plain, messages, contents)
        marked = self._run(self._marked, messages, slots)
        segments = tuple(self._segments(marked, messages))
        if segments and segments[-1].text == END:  # every document ends with that token anyway
            segments, whole = segments[:-1], whole.removesuffix(END)
        if "".join(segment.text for segment in segments) != whole:
            raise TemplateError(
                f"chat template {self.name}: it rewrites or tests a message's content, so that prompt and response can't be "
                "told apart in its output; write contents with {{ message.content }} (and | trim at most)"
            )
        return segments

    def prompt(self, messages: Sequence[Message]) -> str:
        """The conversation up to where the model speaks next; raises `TemplateError` where the template fails."""
        return self._run(self._plain, messages, [message.content for message in messages], ask=True)

    def _run(self, template: Any, messages: Sequence[Message], contents: Sequence[str], *, ask: bool = False) -> str:
        turns = [{"role": message.role, "content": content} for message, content in zip(messages, contents)]
        try:
            return template.render(
                messages=turns, add_generation_prompt=ask, bos_token="", eos_token=END, raise_exception=_refuse
            )
        except (JinjaError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise TemplateError(f"chat template {self.name}: {error}") from error

    def _segments(self, marked: str, messages: Sequence[Message]) -> Iterator[Segment]:
        generating, ending = False, False  # inside a generation block; after an assistant's content, before its end marker
        for part in _PARTS.split(marked):
            if part in (GENERATION_START, GENERATION_END):
                generating = part == GENERATION_START
            elif slot := _SLOT.fullmatch(part):
                message = messages[int(slot[1])]
                assistant = message.role == "assistant"
                ending = assistant and not self.has_generation
                if text := _stripped(message.content, slot[2]):
                    yield Segment(text, generating if self.has_generation else assistant)
            elif part:
                yield from _template_text(part, generating=generating, ending=ending)
                ending = False


def _template_text(text: str, *, generating: bool, ending: bool) -> Iterator[Segment]:
    """Cuts the template's own text at special pieces; after an assistant's content the first one is in the loss."""
    pieces = [piece for piece in SPECIAL.split(text) if piece]
    first = next((index for index, piece in enumerate(pieces) if SPECIAL.fullmatch(piece)), -1) if ending else -1
    for index, piece in enumerate(pieces):
        yield Segment(piece, generating or index <= first, special=bool(SPECIAL.fullmatch(piece)))


def _stripped(content: str, operations: str) -> str:
    for operation in operations:
        content = {"s": content.strip, "l": content.lstrip, "r": content.rstrip}[operation]()
    return content


def _environment(*, marks: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.marks = marks  # type: ignore[attr-defined]
    environment.add_extension(_Generation)
    return environment


def _refuse(message: str) -> str:
    raise ValueError(message)


@lru_cache(maxsize=16)
def load_template(path: str | None) -> ChatTemplate:
    """A template file, or the built-in one for None. Raises TemplateError where it can't be read."""
    file = Path(path) if path else Path(__file__).with_name("plain.jinja")
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"chat template {file}: cannot be read: {error}") from error
    return ChatTemplate(source, name=file.name if path else "built-in")
