"""Rule-based wording of prompts: the same instruction asked in many ways, so that a model doesn't learn one form.

Which rule a prompt gets depends on (seed, example, epoch) alone: an example's rules are put in an order drawn from its id, and
epoch e takes the e-th of those that fit it, so that repetitions differ as long as there are rules. Answers never change.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import xxhash

from data_prep.sft.records import Message, Record

_FENCED = re.compile(r"\A(?P<text>[^`]+?)\n\n(?P<code>```.*```)\s*\Z", re.DOTALL)
_PARAGRAPHS = re.compile(r"\A(?P<first>[^\n]+)\n\n(?P<rest>.+)\Z", re.DOTALL)
_SENTENCE = re.compile(r"\A[A-Z][a-z]+ [a-z`]")
SHORT_ANSWER_CHARS = 60

LEADS = (
    "Please help me with this.",
    "I have a question.",
    "Can you answer this?",
    "Here is something for you to work on.",
    "Consider the following.",
)
REQUESTS = ("Please answer.", "What is your answer?", "Write your answer below.", "Respond with your answer.")
LABELS = ("Question", "Task", "Problem", "Instruction", "Query")
THANKS = ("Thanks!", "Thank you.", "Thanks in advance.", "I appreciate your help.")
SYSTEMS = (
    "You are a helpful assistant.",
    "You answer questions truthfully.",
    "You are an assistant who follows instructions.",
    "Answer as well as you can.",
)
SKILLS = {
    "math": "You are good at mathematics.", "code": "You are an experienced programmer.", "logic": "You reason with care.",
    "knowledge": "You know a great deal.", "commonsense": "You know how the world works.",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """A transformation: its name, whether it fits a record, and what it makes of the prompt."""

    name: str
    fits: Callable[[Record, str], bool]
    apply: Callable[[str, random.Random], str]


def _always(record: Record, prompt: str) -> bool:
    return True


def _single_turn(record: Record, prompt: str) -> bool:
    return sum(message.role == "user" for message in record.messages) == 1


def _short_answer(record: Record, prompt: str) -> bool:
    answer = record.messages[-1].content
    return _single_turn(record, prompt) and "\n" not in answer and len(answer) <= SHORT_ANSWER_CHARS


def _code_first(prompt: str, rng: random.Random) -> str:
    match = _FENCED.match(prompt)
    assert match
    return f"{match['code']}\n\n{match['text'].strip()}"


def _input_label(prompt: str, rng: random.Random) -> str:
    match = _PARAGRAPHS.match(prompt)
    assert match
    return f"{match['first']}\n\nInput:\n{match['rest']}"


RULES = (
    Rule("as_is", _always, lambda prompt, rng: prompt),
    Rule("lead", _always, lambda prompt, rng: f"{rng.choice(LEADS)}\n\n{prompt}"),
    Rule("request", _single_turn, lambda prompt, rng: f"{prompt}\n\n{rng.choice(REQUESTS)}"),
    Rule("label", _always, lambda prompt, rng: f"{rng.choice(LABELS)}: {prompt}"),
    Rule("heading", _always, lambda prompt, rng: f"### {rng.choice(LABELS)}\n\n{prompt}"),
    Rule("answer_cue", _single_turn, lambda prompt, rng: f"{prompt}\n\nAnswer:"),
    Rule("label_and_cue", _single_turn, lambda prompt, rng: f"Q: {prompt}\nA:"),
    Rule("thanks", _always, lambda prompt, rng: f"{prompt}\n\n{rng.choice(THANKS)}"),
    Rule("tags", _always, lambda prompt, rng: f"<task>\n{prompt}\n</task>"),
    Rule("rule_lines", _always, lambda prompt, rng: f"---\n{prompt}\n---"),
    Rule(
        "lower_start", lambda record, prompt: bool(_SENTENCE.match(prompt)), lambda prompt, rng: prompt[0].lower() + prompt[1:]
    ),
    Rule(
        "no_final_mark", lambda record, prompt: prompt[-1:] in "?." and prompt[-2:-1].isalnum(), lambda prompt, rng: prompt[:-1]
    ),
    Rule("code_first", lambda record, prompt: bool(_FENCED.match(prompt)), _code_first),
    Rule("input_label", lambda record, prompt: bool(_PARAGRAPHS.match(prompt)), _input_label),
    Rule("answer_only", _short_answer, lambda prompt, rng: f"{prompt}\n\nGive only the answer."),
    Rule("system", lambda record, prompt: record.messages[0].role != "system", lambda prompt, rng: prompt),
)


def vary(record: Record, *, epoch: int, seed: int = 0) -> tuple[Record, str]:
    """The record in another wording.

    Args:
        record: A conversation; its first user's turn is reworded (one without any stays as it is).
        epoch: Which repetition this is.
        seed: Another seed gives every example other rules.

    Returns:
        The record, and the rule's name.
    """
    index = next((index for index, message in enumerate(record.messages) if message.role == "user"), None)
    if index is None:
        return record, "as_is"
    prompt = record.messages[index].content
    order = random.Random(_key(seed, record.id or record.payload))
    fitting = [rule for rule in RULES if rule.fits(record, prompt)]
    order.shuffle(fitting)
    rule = fitting[epoch % len(fitting)]
    rng = random.Random(_key(seed, record.id or record.payload, epoch))
    messages = list(record.messages)
    messages[index] = Message("user", rule.apply(prompt, rng))
    if rule.name == "system":
        skill = SKILLS.get(record.category)
        messages.insert(0, Message("system", rng.choice((*SYSTEMS, skill) if skill else SYSTEMS)))
    return replace(record, messages=tuple(messages)), rule.name


def _key(*parts: object) -> int:
    """A seed from any values, the same on every machine and Python (``hash`` of text isn't)."""
    return xxhash.xxh64_intdigest("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"))
