"""Contamination: what counts as shared text, on which side of an instruction pair, and what is dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.contamination import build_index, contamination, item_texts
from data_prep.dedup.drops import DropList
from data_prep.errors import DataError
from data_prep.sources import SourceSpec

QUESTION = "A train leaves the old station at nine in the morning and reaches the coast four hours later; when does it arrive?"
ANSWER = "It leaves at nine, and nine plus four is thirteen, so it arrives at one in the afternoon."
FILLER = "Some entirely different prose about gardens, tools and the weather of early spring in the northern valleys. " * 3


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    rows = [
        {"id": "train-1", "question": QUESTION, "answer": ANSWER},
        {
            "id": "choices",
            "question": "Which?",
            "choices": {"text": ["a lamp which shines only where nobody has ever looked before in the dark"]},
        },
        {"id": "short", "question": "What colour is a ripe banana?", "answer": "yellow"},
        {"id": "tiny", "question": "2+2?", "answer": "4"},
    ]
    write_jsonl(tmp_path / "evals" / "riddles.jsonl", rows)
    write_jsonl(
        tmp_path / "evals" / "other.jsonl",
        [{"text": "nothing of this kind stands in any document of the corpus that we look through"}],
    )
    return tmp_path / "evals"


def run(
    tmp_path: Path, rows: list[dict[str, Any]], evaluation: Path, **options: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kind = options.pop("kind", "jsonl")
    spec = SourceSpec(name="web", kind=kind, paths=(str(write_jsonl(tmp_path / "web.jsonl", rows)),))
    outcome = contamination([spec], against=[str(evaluation)], data_dir=tmp_path / "data", **options)
    hits = [json.loads(line) for line in Path(outcome["hits"]).read_text().splitlines()]
    return outcome, hits


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (f"{FILLER} {QUESTION} {FILLER}", [1]),
        (f"{FILLER}\n{QUESTION.upper().replace(' ', chr(10))}\n{FILLER}", [1]),  # case and layout don't matter
        (f"{FILLER} {ANSWER} {FILLER}", [1]),  # the answer alone
        (f"{FILLER} {' '.join(QUESTION.split()[3:16])} {FILLER}", [1]),  # 13 words of it
        (f"{FILLER} {' '.join(QUESTION.split()[3:15])} {FILLER}", []),  # 12
        (f"{FILLER} a lamp which shines only where nobody has ever looked before in the dark", [2]),
        ("They ask: what colour is a ripe banana? Yellow, she said, and " + FILLER, []),  # 7 words: too few inside a text
        ("What colour is a ripe banana?\nYellow", [3]),  # but all of a document
        ("2+2? 4", [4]),
        (f"She knew that 2+2? 4 {FILLER}", []),
        (FILLER, []),
    ],
)
def test_what_counts_as_shared(tmp_path: Path, evaluation: Path, text: str, items: list[int]) -> None:
    outcome, hits = run(tmp_path, [{"text": FILLER + "first"}, {"text": text}], evaluation)
    assert sorted({item for hit in hits for item in hit["items"]}) == items
    assert {hit["benchmark"] for hit in hits} == ({"riddles"} if items else set())
    assert outcome["benchmarks"]["riddles"] == {"items": 4, "items_hit": len(items), "documents": bool(items)}
    assert outcome["benchmarks"]["other"]["items_hit"] == 0
    assert outcome["sources"]["web"] == {"documents": 2, "hit": bool(items)}
    for hit in hits:  # the excerpt is text of the document
        assert hit["shared"].split()[0].lower() in text.lower()


@pytest.mark.parametrize("side", ["prompt", "response"])
def test_both_sides_of_instruction_data_before_rendering(tmp_path: Path, evaluation: Path, side: str) -> None:
    clean = {"prompt": FILLER, "response": "Yes."}
    rows = [clean, clean | {side: f"{FILLER} {QUESTION}"}]
    _, hits = run(tmp_path, rows, evaluation, kind="sft")
    assert len({hit["id"] for hit in hits}) == 1
    assert hits[0]["shared"].startswith("a train leaves")


def test_drop_lists_are_written_only_if_wanted_and_taken_back(tmp_path: Path, evaluation: Path) -> None:
    rows = [{"text": FILLER}, {"text": QUESTION}]
    _, hits = run(tmp_path, rows, evaluation)
    assert not DropList.load(tmp_path / "data", "web")
    run(tmp_path, rows, evaluation, drop=True)
    drops = DropList.load(tmp_path / "data", "web")
    assert hits[0]["id"] in drops
    assert f"{tmp_path}/web.jsonl:0" not in drops
    run(tmp_path, rows, evaluation)
    assert not DropList.load(tmp_path / "data", "web")


def test_workers_and_cuts_change_nothing(tmp_path: Path, evaluation: Path) -> None:
    rows = [{"text": f"{number} {FILLER} {QUESTION if number % 7 == 0 else ''}"} for number in range(60)]
    _, hits = run(tmp_path, rows, evaluation)
    _, again = run(tmp_path, rows, evaluation, workers=2, unit_bytes=2000)
    assert hits == again
    assert len(hits) == 9


def test_an_item_shared_by_many_is_named_with_them(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "evals" / "passages.jsonl", [{"passage": QUESTION, "question": f"part {n}"} for n in range(3)])
    _, hits = run(tmp_path, [{"text": QUESTION}], tmp_path / "evals")
    assert hits[0]["items"] == [1, 2, 3]


def test_texts_of_an_item() -> None:
    row = {"id": "x", "question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "n": 3, "label": "A"}
    assert item_texts(row) == ["q", "a", "b"]
    assert item_texts(row, ["id", "question"]) == ["x", "q"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("{broken\n", "evals/bad.jsonl:1"), ('{"id": "only"}\n', "no text in any field")],
)
def test_bad_evaluation_sets_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "bad.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        build_index([str(tmp_path / "evals")])
