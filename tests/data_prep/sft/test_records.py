"""Rows of instruction data: which keys are read, and what is refused by what name."""

from __future__ import annotations

from typing import Any

import pytest

from data_prep.sft.records import Message, Record, RecordError, conversation

ASKED = (Message("user", "2+2?"), Message("assistant", "4"))


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": "2+2?", "response": "4"}, ASKED),
        ({"prompt": "2+2?", "completion": "4"}, ASKED),
        ({"question": "2+2?", "answer": "4", "id": 7}, ASKED),
        ({"instruction": "Add.", "input": "2, 2", "output": "4"}, (Message("user", "Add.\n\n2, 2"), ASKED[1])),
        ({"instruction": "2+2?", "input": "", "output": "4"}, ASKED),
        ({"instruction": "2+2?", "output": "4"}, ASKED),
        ({"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}, ASKED),
        ({"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]}, ASKED),
        ({"system": "Be brief.", "prompt": "2+2?", "response": "4"}, (Message("system", "Be brief."), *ASKED)),
    ],
)
def test_shapes(row: dict[str, Any], messages: tuple[Message, ...]) -> None:
    assert conversation(row) == messages


@pytest.mark.parametrize(
    ("row", "kind", "why"),
    [
        ({"text": "2+2"}, "no field", "it has text"),
        ({"prompt": "2+2?"}, "no field", "prompt \\+ response"),
        ({}, "no field", "it has nothing"),
        ({"prompt": " ", "response": "4"}, "empty", "prompt is empty"),
        ({"prompt": "2+2?", "response": "\n"}, "empty", "assistant"),
        ({"prompt": "2+2?", "response": 4}, "wrong type", "response is int"),
        ({"messages": "2+2?"}, "wrong type", "messages is str"),
        ({"messages": ["2+2?"]}, "wrong type", "a turn of messages is str"),
        ({"messages": []}, "empty", "assistant"),
        ({"messages": [{"role": "user", "content": "2+2?"}]}, "empty", "assistant"),
        ({"messages": [{"role": "wizard", "content": "2+2?"}]}, "unknown role", "'wizard'"),
        ({"messages": [{"role": "user", "content": None}]}, "wrong type", "content is NoneType"),
    ],
)
def test_what_is_no_conversation(row: dict[str, Any], kind: str, why: str) -> None:
    with pytest.raises(RecordError, match=why) as caught:
        conversation(row)
    assert caught.value.kind == kind


def test_payload_is_prompt_and_answer_without_the_system_text() -> None:
    assert Record((Message("system", "Be brief."), *ASKED)).payload == "2+2?\n4"
