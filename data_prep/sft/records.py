"""What an SFT corpus holds before rendering: conversations, whatever keys the file uses for them.

Deduplication and contamination work on these (``payload``), not on rendered text, whose template words make different
items look alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from data_prep.errors import SourceError

ROLES = {
    "system": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "function": "tool",
}  # fmt: skip
# (prompt, further input, response): the key triples in use, the first that fits counts.
PAIR_KEYS = (
    ("prompt", "", "response"),
    ("prompt", "", "completion"),
    ("instruction", "input", "output"),
    ("question", "", "answer"),
)
CONVERSATION_KEYS = ("messages", "conversations", "conversation")


class Message(NamedTuple):
    """One turn. Roles: system, user, assistant, tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Record:
    """One conversation.

    Attributes:
        messages: Turns in order; at least one is the assistant's.
        id: Stays the same as long as the input does.
        category: math, code, logic, knowledge, commonsense, or empty.
        group: Source document or prompt family: the unit of the held-out split.
        file: Where it came from.
        line: Line or row, from 1.
    """

    messages: tuple[Message, ...]
    id: str = ""
    category: str = ""
    group: str = ""
    file: str = ""
    line: int = 0

    @property
    def payload(self) -> str:
        """Prompt and answer without any template: what two records are compared by."""
        return "\n".join(message.content for message in self.messages if message.role != "system")


class RecordError(SourceError):
    """A record isn't a conversation; ``kind`` is the reject's kind."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def conversation(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The turns of a row of JSONL or Parquet.

    Args:
        row: ``messages`` ({role, content}), ``conversations`` ({from, value}), or one of PAIR_KEYS, with or without ``system``.

    Raises:
        RecordError: No known keys, a turn of the wrong type, an unknown role, or no assistant's turn.
    """
    key = next((key for key in CONVERSATION_KEYS if key in row), None)
    if key is not None:
        turns = row[key]
        if not isinstance(turns, Sequence) or isinstance(turns, str | bytes):
            raise RecordError("wrong type", f"{key} is {type(turns).__name__}, and should be a list of turns")
        messages = tuple(_turn(turn, key) for turn in turns)
    else:
        messages = _pair(row)
    if row.get("system") and messages[:1] and messages[0].role != "system":
        messages = (Message("system", _text(row["system"], "system")), *messages)
    if not any(message.role == "assistant" and message.content.strip() for message in messages):
        raise RecordError("empty", "no assistant's turn with content")
    return messages


def _pair(row: Mapping[str, Any]) -> tuple[Message, ...]:
    for prompt_key, more_key, response_key in PAIR_KEYS:
        if prompt_key in row and response_key in row:
            prompt = _text(row[prompt_key], prompt_key)
            if more_key and row.get(more_key):
                prompt = f"{prompt}\n\n{_text(row[more_key], more_key)}"
            if not prompt.strip():
                raise RecordError("empty", f"{prompt_key} is empty")
            return (Message("user", prompt), Message("assistant", _text(row[response_key], response_key)))
    pairs = ", ".join(f"{prompt} + {response}" for prompt, _, response in PAIR_KEYS)
    found = ", ".join(map(str, row)) or "nothing"
    raise RecordError("no field", f"none of {', '.join(CONVERSATION_KEYS)}, nor {pairs}; it has {found}")


def _turn(turn: Any, key: str) -> Message:
    if not isinstance(turn, Mapping):
        raise RecordError("wrong type", f"a turn of {key} is {type(turn).__name__}, and should be an object")
    role = turn.get("role", turn.get("from"))
    if role not in ROLES:
        raise RecordError("unknown role", f"{role!r} is not one of {', '.join(ROLES)}")
    return Message(ROLES[role], _text(turn.get("content", turn.get("value")), "content"))


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise RecordError("wrong type", f"{key} is {type(value).__name__}, and should be text")
    return value
