"""Prompt rules: each does what its name says, changes the prompt only, and is drawn from seed, example and epoch alone."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data_prep.sft.records import Message, Record
from data_prep.sft.variants import LABELS, LEADS, REQUESTS, RULES, SYSTEMS, THANKS, vary

PLAIN = "What is the capital of France?"
CODE = "What does the last statement print?\n\n```python\nprint(1 + 1)\n```"
RULE = {rule.name: rule for rule in RULES}


def record(prompt: str = PLAIN, answer: str = "Paris.", *, identity: str = "r1", category: str = "") -> Record:
    return Record((Message("user", prompt), Message("assistant", answer)), id=identity, category=category)


def one_of(choices: tuple[str, ...]) -> str:
    return "(" + "|".join(re.escape(choice) for choice in choices) + ")"


@pytest.mark.parametrize(
    ("name", "prompt", "pattern"),
    [
        ("as_is", PLAIN, re.escape(PLAIN)),
        ("lead", PLAIN, one_of(LEADS) + r"\n\n" + re.escape(PLAIN)),
        ("request", PLAIN, re.escape(PLAIN) + r"\n\n" + one_of(REQUESTS)),
        ("label", PLAIN, one_of(LABELS) + ": " + re.escape(PLAIN)),
        ("heading", PLAIN, "### " + one_of(LABELS) + r"\n\n" + re.escape(PLAIN)),
        ("answer_cue", PLAIN, re.escape(PLAIN) + r"\n\nAnswer:"),
        ("label_and_cue", PLAIN, "Q: " + re.escape(PLAIN) + r"\nA:"),
        ("thanks", PLAIN, re.escape(PLAIN) + r"\n\n" + one_of(THANKS)),
        ("tags", PLAIN, r"<task>\n" + re.escape(PLAIN) + r"\n</task>"),
        ("rule_lines", PLAIN, r"---\n" + re.escape(PLAIN) + r"\n---"),
        ("lower_start", PLAIN, re.escape("what is the capital of France?")),
        ("no_final_mark", PLAIN, re.escape("What is the capital of France")),
        ("code_first", CODE, re.escape("```python\nprint(1 + 1)\n```\n\nWhat does the last statement print?")),
        ("input_label", "Sum them.\n\n1 2\n3", re.escape("Sum them.\n\nInput:\n1 2\n3")),
        ("answer_only", PLAIN, re.escape(PLAIN) + r"\n\nGive only the answer\."),
        ("system", PLAIN, re.escape(PLAIN)),
    ],
)
def test_each_rule(name: str, prompt: str, pattern: str) -> None:
    assert RULE[name].fits(record(prompt), prompt)
    assert re.fullmatch(pattern, RULE[name].apply(prompt, random.Random(3)))


def test_every_rule_is_tested_and_there_are_at_least_ten() -> None:
    tested = {mark.args[1][i][0] for mark in test_each_rule.pytestmark for i in range(len(mark.args[1]))}  # type: ignore[attr-defined]
    assert tested == set(RULE)
    assert len(RULE) >= 10


@pytest.mark.parametrize(
    ("name", "prompt", "answer"),
    [
        ("lower_start", "NASA was founded when?", "1958"),
        ("lower_start", "x + y", "z"),
        ("no_final_mark", "Go on...", "No."),
        ("no_final_mark", "Why", "No."),
        ("code_first", PLAIN, "Paris."),
        ("input_label", PLAIN, "Paris."),
        ("answer_only", PLAIN, "Paris.\nIt lies on the Seine."),
        ("answer_only", PLAIN, "Paris, " * 20),
    ],
)
def test_rules_keep_off_what_they_do_not_fit(name: str, prompt: str, answer: str) -> None:
    assert not RULE[name].fits(record(prompt, answer), prompt)


def test_cues_are_only_for_single_questions() -> None:
    turns = record().messages * 2
    for name in ("answer_cue", "label_and_cue", "request", "answer_only"):
        assert not RULE[name].fits(Record(turns, id="x"), PLAIN)


def test_answers_and_later_turns_never_change() -> None:
    turns = (*record(CODE).messages, Message("user", "And then?"), Message("assistant", "Nothing."))
    for epoch in range(40):
        varied, _ = vary(Record(turns, id="x"), epoch=epoch)
        assert varied.messages[-3:] == turns[-3:]
        assert "print(1 + 1)" in varied.messages[-4].content


def test_epochs_go_through_the_rules_that_fit() -> None:
    names = [vary(record(CODE, "2"), epoch=epoch)[1] for epoch in range(14)]
    assert len(set(names)) == 14  # of 16, no_final_mark doesn't fit, and one is left
    assert names == [vary(record(CODE, "2"), epoch=epoch)[1] for epoch in range(14)]


def test_seed_example_and_epoch_decide() -> None:
    drawn = {(seed, identity, epoch): vary(record(identity=identity), epoch=epoch, seed=seed)
             for seed in (0, 1) for identity in "abcdefgh" for epoch in (0, 1)}  # fmt: skip
    for changed in ((1, "a", 0), (0, "b", 0), (0, "a", 1)):
        same = [
            drawn[key][0].messages == drawn[tuple(a if a == b else b for a, b in zip(key, changed))][0].messages
            for key in drawn
        ]
        assert not all(same)


def test_all_rules_come_up_about_as_often() -> None:
    counts = Counter(vary(record(identity=f"r{n}"), epoch=0)[1] for n in range(3000))
    fitting = [rule.name for rule in RULES if rule.fits(record(), PLAIN)]
    assert set(counts) == set(fitting)
    assert min(counts.values()) > 0.6 * 3000 / len(fitting)


def test_the_system_rule_names_the_category_s_skill() -> None:
    systems = set()
    for n in range(800):
        varied, name = vary(record(identity=f"r{n}", category="math"), epoch=0)
        if name == "system":
            assert varied.messages[0].role == "system"
            systems.add(varied.messages[0].content)
    assert systems == {*SYSTEMS, "You are good at mathematics."}


def test_another_process_draws_the_same() -> None:
    code = (
        "from data_prep.sft.records import Message, Record\nfrom data_prep.sft.variants import vary\n"
        "r = lambda i: Record((Message('user', 'What is the capital of France?'), "
        "Message('assistant', 'Paris.')), id=f'r{i}')\n"
        "print([vary(r(i), epoch=2)[1] for i in range(30)])"
    )
    root = Path(__file__).parents[3]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{[vary(record(identity=f'r{i}'), epoch=2)[1] for i in range(30)]}\n".encode()}
