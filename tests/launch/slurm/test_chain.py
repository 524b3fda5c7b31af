"""Which links a request leads to, and in what order."""

from pathlib import Path

import pytest

from launch.slurm.chain import TASK, Link, Request, build_chain


def chain(**changes: object) -> dict[str, Link]:
    request = {"recipe": Path("/r/jobs/recipe.yaml"), "run_dir": Path("/r"), "data_dir": Path("/d")} | changes
    return {link.name: link for link in build_chain(Request(**request))}


def test_from_raw_text_to_report() -> None:
    links = chain(num_missing_shards=5, branches={"a": 1, "b": 2})
    assert list(links) == [
        "tokenizer", "tokenize", "verify", "train", "decay-a", "decay-b",
        "eval", "export", "eval-a", "export-a", "eval-b", "export-b", "report",
    ]
    assert links["tokenize"].after == ("tokenizer",)
    assert links["verify"].after == ("tokenize",)
    assert links["train"].after == ("verify",)
    assert links["decay-a"].after == links["decay-b"].after == ("train",)  # side by side
    assert links["eval-b"].after == ("decay-b",)
    assert links["report"].after == ("export", "export-a", "export-b")
    assert links["tokenize"].num_tasks == 5
    assert TASK in links["tokenize"].arguments


def test_only_what_is_missing() -> None:
    assert "tokenizer" not in chain(has_tokenizer=True, num_missing_shards=3)
    there = chain(has_tokenizer=True, num_missing_shards=0)
    assert list(there) == ["verify", "train", "eval", "export", "report"]
    assert there["verify"].after == ()


def test_array_is_bounded() -> None:
    assert chain(num_missing_shards=10_000, max_tasks=64)["tokenize"].num_tasks == 64


@pytest.mark.parametrize(("until", "last"), [("data", "verify"), ("train", "decay-a"), ("report", "report")])
def test_until(until: str, last: str) -> None:
    assert list(chain(until=until, branches={"a": 1}))[-1] == last


def test_every_link_comes_after_what_it_waits_for() -> None:
    seen: set[str] = set()
    for link in chain(branches={"a": 1}).values():
        assert set(link.after) <= seen
        seen.add(link.name)
