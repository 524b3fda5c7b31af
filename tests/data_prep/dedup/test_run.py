"""Deduplication end to end: what is found in a planted corpus, and that nothing but the contents decides it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from data_prep.dedup.drops import DropList
from data_prep.dedup.run import Settings, deduplicate
from data_prep.errors import DataError
from data_prep.sources import SourceSpec, documents
from tests.data_prep.dedup.planted import Planted, plant, true_jaccard

ROOT = Path(__file__).parents[3]


def write(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def source(path: Path, name: str = "web", **fields: Any) -> SourceSpec:
    return SourceSpec(name=name, paths=(str(path),), **fields)


def lines(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(outcome["dropped"]).read_text(encoding="utf-8").splitlines()]


def survivors(specs: list[SourceSpec], data_dir: Path) -> list[str]:
    """The texts that tokenizing would see."""
    return [
        d.text for spec in specs for drops in [DropList.load(data_dir, spec.name)] for d in documents(spec) if d.id not in drops
    ]


@pytest.fixture(scope="module")
def planted() -> Planted:
    spec = SourceSpec(name="docs", kind="python", what="docs", paths=("stdlib",))
    return plant([document.text for document in documents(spec)], per_kind=150, seed=5)


@pytest.fixture(scope="module")
def small(planted: Planted) -> list[str]:
    """A fifth of it: pairs whole, and the shuffle kept."""
    some = {position for left, right, _, _ in planted.pairs[:150] for position in (left, right)}
    return [text for position, text in enumerate(planted.texts) if position in some or position % 20 == 0]


def judged(planted: Planted, tmp_path: Path, settings: Settings) -> tuple[dict[str, float], float]:
    """Recall by kind over the pairs of true similarity of at least 0.85, and precision over all that is dropped."""
    spec = source(write(tmp_path / "all.jsonl", planted.texts))
    outcome = deduplicate([spec], data_dir=tmp_path / settings.method, settings=settings)
    position = {document.id: number for number, document in enumerate(documents(spec))}
    kept = {position[line["id"]]: position[line["kept"]] for line in lines(outcome)}
    family = planted.family
    good = [
        family[gone] == family[stays] or true_jaccard(planted.texts[gone], planted.texts[stays]) >= 0.8
        for gone, stays in kept.items()
    ]
    found: dict[str, list[bool]] = defaultdict(list)
    for left, right, kind, similarity in planted.pairs:
        if similarity >= 0.85:
            for name in (kind, "all"):
                found[name].append(kept.get(left, left) == kept.get(right, right))
    assert min(map(len, found.values())) > 15
    return {name: sum(hits) / len(hits) for name, hits in found.items()}, sum(good) / len(good)


def test_recall_and_precision_on_a_planted_corpus(planted: Planted, tmp_path: Path) -> None:
    recall, precision = judged(planted, tmp_path, Settings())
    assert set(recall) == {"all", "edits", "truncated", "joined", "short", "chinese"}
    assert min(recall.values()) > 0.95
    assert recall["all"] > 0.98
    assert precision > 0.99


def test_simhash_finds_less_and_that_is_why_it_is_no_default(planted: Planted, tmp_path: Path) -> None:
    recall, precision = judged(planted, tmp_path, Settings(method="simhash"))
    assert 0.05 < recall["all"] < 0.5
    assert precision > 0.8


def test_texts_in_one_template_are_not_duplicates(planted: Planted, tmp_path: Path) -> None:
    texts = [planted.texts[position] for position in planted.templates]
    outcome = deduplicate([source(write(tmp_path / "t.jsonl", texts))], data_dir=tmp_path)
    assert outcome["num_dropped"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"memory_bytes": 1, "unit_bytes": 100_000},
        {"workers": 2, "memory_bytes": 200_000, "unit_bytes": 150_000},
    ],
)
def test_workers_memory_and_cuts_change_nothing(small: list[str], tmp_path: Path, options: dict[str, int]) -> None:
    half = len(small) // 2
    specs = [source(write(tmp_path / f"{n}.jsonl", small[n * half :][:half]), f"s{n}") for n in range(2)]
    plain = deduplicate(specs, data_dir=tmp_path / "plain")
    other = deduplicate(specs[::-1], data_dir=tmp_path / "other", **options)
    assert lines(plain) == lines(other)
    assert {k: v for k, v in plain.items() if k != "dropped"} == {k: v for k, v in other.items() if k != "dropped"}


def test_order_of_lines_and_files_changes_nothing(small: list[str], tmp_path: Path) -> None:
    shuffled = list(small)
    random.Random(1).shuffle(shuffled)
    one = [source(write(tmp_path / "a" / "1.jsonl", small))]
    write(tmp_path / "b" / "1.jsonl", shuffled[:150])
    write(tmp_path / "b" / "2.jsonl", shuffled[150:])
    two = [source(tmp_path / "b")]
    for data, specs in (("one", one), ("two", two)):
        deduplicate(specs, data_dir=tmp_path / data)
    assert sorted(survivors(one, tmp_path / "one")) == sorted(survivors(two, tmp_path / "two"))


def test_exact_copies_within_and_across(tmp_path: Path) -> None:
    specs = [
        source(write(tmp_path / "a.jsonl", ["one", "two", "one", "four"]), "a"),
        source(write(tmp_path / "b.jsonl", ["two", "five"]), "b"),
    ]
    outcome = deduplicate(specs, data_dir=tmp_path, settings=Settings(method="exact"))
    assert outcome["num_documents"] == 6
    assert outcome["num_dropped"] == 2
    assert [(line["source"], line["kept_source"], line["why"]) for line in lines(outcome)] == [
        ("a", "a", "exact"),
        ("b", "a", "exact"),
    ]
    assert outcome["sources"]["a"]["exact_within"] == outcome["sources"]["b"]["exact_across"] == 1
    assert outcome["flows"][1] == {"source": "b", "kept_source": "a", "why": "exact", "documents": 1}
    assert sorted(survivors(specs, tmp_path)) == ["five", "four", "one", "two"]


@pytest.mark.parametrize("method", ["exact", "minhash", "simhash"])
@pytest.mark.parametrize("prefer", ["a", "b", "c"])
def test_a_wanted_source_keeps_its_documents(tmp_path: Path, prefer: str, method: str) -> None:
    texts = [" ".join(f"w{n}x{m}" for m in range(50)) for n in range(20)]
    specs = [source(write(tmp_path / f"{name}.jsonl", texts), name) for name in "abc"]
    outcome = deduplicate(specs, data_dir=tmp_path, settings=Settings(method=method, prefer=(prefer,)))
    assert outcome["num_dropped"] == 40
    assert {line["kept_source"] for line in lines(outcome)} == {prefer}


def test_near_copies_say_how_near(planted: Planted, tmp_path: Path) -> None:
    spec = source(write(tmp_path / "all.jsonl", planted.texts))
    text = {document.id: document.text for document in documents(spec)}
    near = [line for line in lines(deduplicate([spec], data_dir=tmp_path)) if line["why"] == "near"]
    assert len(near) > 50
    for line in near:
        assert line["jaccard"] == pytest.approx(
            true_jaccard(text[line["id"]], text[line["kept"]]), abs=0.01
        )  # symbols such as → are words here


def test_instruction_data_is_compared_before_rendering(tmp_path: Path) -> None:
    """Under one long system text and the template, short items would all look alike."""
    system = "You are an assistant who answers with care, says what is not known, and never makes anything up. " * 8
    rows = [
        {"system": system, "prompt": f"What is {n} plus {n + 1} and why?", "response": f"It is {2 * n + 1}."} for n in range(40)
    ]
    rows += [{"system": "Another.", "prompt": rows[7]["prompt"], "response": rows[7]["response"]}]
    path = tmp_path / "sft.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = SourceSpec(name="sft", kind="sft", paths=(str(path),), prompt_variants=3)
    outcome = deduplicate([spec], data_dir=tmp_path)
    assert outcome["num_dropped"] == 1
    assert len(survivors([spec], tmp_path)) == 3 * 40  # all wordings of it go


def test_many_copies_of_one_text_with_small_changes(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"w{rng.randrange(9999)}" for _ in range(300)]
    copies = [" ".join([*words[:at], f"changed{at}", *words[at + 1 :]]) for at in range(300)]
    others = [" ".join(f"v{rng.randrange(9999)}" for _ in range(300)) for _ in range(20)]
    outcome = deduplicate([source(write(tmp_path / "m.jsonl", copies + others))], data_dir=tmp_path)
    assert outcome["num_dropped"] == 299
    assert outcome["largest_groups"][0]["documents"] == 300


def test_texts_without_words_are_compared_exactly(tmp_path: Path) -> None:
    outcome = deduplicate([source(write(tmp_path / "w.jsonl", ["!!!", "???", "...", "!!!", " ", "one"]))], data_dir=tmp_path)
    assert outcome["num_dropped"] == 1


def test_a_second_run_returns_the_report_and_puts_the_lists_back(small: list[str], tmp_path: Path) -> None:
    spec = source(write(tmp_path / "all.jsonl", small))
    first = deduplicate([spec], data_dir=tmp_path)
    digest = DropList.load(tmp_path, "web").digest
    deduplicate([spec], data_dir=tmp_path, settings=Settings(method="exact"))
    assert DropList.load(tmp_path, "web").digest != digest
    assert deduplicate([spec], data_dir=tmp_path) == first
    assert DropList.load(tmp_path, "web").digest == digest
    assert sorted(path.name for path in Path(first["dropped"]).parent.iterdir() if path.is_dir()) == []  # no scratch is left


def test_a_killed_run_goes_on_and_ends_the_same(small: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", small)
    code = (
        "import sys\nfrom data_prep.dedup.run import deduplicate\nfrom data_prep.sources import SourceSpec\n"
        "if __name__ == '__main__':\n"
        "    spec = SourceSpec(name='web', paths=(sys.argv[1],))\n"
        "    deduplicate([spec], data_dir=sys.argv[2], unit_bytes=60_000, memory_bytes=100_000)\n"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "killed")]
    rng = random.Random(4)
    for _ in range(5):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 1.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    clean = deduplicate([source(path)], data_dir=tmp_path / "clean", unit_bytes=60_000)
    (report,) = (tmp_path / "killed" / "dedup").glob("*/dropped.jsonl")
    assert report.read_bytes() == Path(clean["dropped"]).read_bytes()
    assert DropList.load(tmp_path / "killed", "web").digest == DropList.load(tmp_path / "clean", "web").digest


def test_an_input_that_changes_is_another_job(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ["one", "one"])
    assert deduplicate([source(path)], data_dir=tmp_path)["num_dropped"] == 1
    write(path, ["one", "two", "three", "two", "one"])
    assert deduplicate([source(path)], data_dir=tmp_path)["num_dropped"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "magic"}, "minhash, simhash, exact"),
        ({"similarity": 0.3}, "between 0.5 and 1"),
        ({"simhash_bits": 60}, "between 0 and 16"),
        ({"prefer": ("nobody",)}, "prefer names nobody; the sources are web"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        deduplicate([source(write(tmp_path / "a.jsonl", ["one"]))], data_dir=tmp_path, settings=Settings(**settings))


def test_bad_sources_are_named(tmp_path: Path) -> None:
    spec = source(write(tmp_path / "a.jsonl", ["one"]))
    with pytest.raises(DataError, match="different names"):
        deduplicate([spec, spec], data_dir=tmp_path)
    with pytest.raises(DataError, match="no such file"):
        deduplicate([source(tmp_path / "nothing.jsonl")], data_dir=tmp_path)
