"""Source kind sft, from files to shards: rows to documents, rejects, wordings, and the mask on disk."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from data_prep.binarize import binarize
from data_prep.errors import RejectLimitError, SourceError
from data_prep.indexed import IndexedShard
from data_prep.plan import make_plan
from data_prep.sources import Document, Reject, SourceSpec, documents, pieces, read
from data_prep.tokenizer import Tokenizer

ROWS = [{"prompt": f"What is {n}+{n}?", "response": str(2 * n), "category": "math"} for n in range(30)]


def source(tmp_path: Path, rows: list[dict] | None = None, **fields: object) -> SourceSpec:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (ROWS if rows is None else rows)))
    return SourceSpec(name="pairs", kind="sft", paths=(str(path),), **fields)  # type: ignore[arg-type]


def test_rows_become_documents_with_category_and_group(tmp_path: Path) -> None:
    found = list(documents(source(tmp_path)))
    assert [d.text for d in found[:2]] == ["User:\nWhat is 0+0?\n\nAssistant:\n0", "User:\nWhat is 1+1?\n\nAssistant:\n2"]
    assert {d.meta["category"] for d in found} == {"math"}
    assert found[1].group == "What is 1+1?"  # the prompt: all answers to it fall on one side of the held-out split
    assert all(segment.loss for d in found for segment in d.segments)


def test_loss_on_responses(tmp_path: Path) -> None:
    for document in documents(source(tmp_path, loss_on="responses")):
        assert [segment.text for segment in document.segments if segment.loss] == [document.text.rpartition("\n")[2]]


@pytest.mark.parametrize(
    ("row", "group"),
    [
        ({"prompt": "p", "response": "r", "source_id": "book-7"}, "book-7"),
        ({"prompt": "p", "response": "r", "group": "g", "source_id": "book-7"}, "g"),
        ({"prompt": "p", "response": "r"}, "p"),
    ],
)
def test_group_is_the_source_document_or_the_prompt(tmp_path: Path, row: dict, group: str) -> None:
    assert next(documents(source(tmp_path, [row]))).group == group


def test_wordings_come_in_whole_passes_with_ids_of_their_own(tmp_path: Path) -> None:
    found = list(documents(source(tmp_path, prompt_variants=3)))
    assert len(found) == 3 * len(ROWS)
    assert len({d.id for d in found}) == len(found)
    first, second = found[: len(ROWS)], found[len(ROWS) : 2 * len(ROWS)]
    assert [d.id + "@1" for d in first] == [d.id for d in second]
    assert [d.group for d in first] == [d.group for d in second]
    assert all(a.text != b.text for a, b in zip(first, second))
    assert all(a.text.rpartition("\n")[2] == b.text.rpartition("\n")[2] for a, b in zip(first, second))


def test_another_seed_gives_other_wordings(tmp_path: Path) -> None:
    """The same seed gives the same texts, another one others; the data set of one isn't taken for that of the other."""
    one, again, other = (
        [d.text for d in documents(source(tmp_path, prompt_variants=2, prompt_seed=seed))] for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_data_of_another_seed_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    make_plan(source(tmp_path, prompt_variants=2, prompt_seed=3), tokenizer=tokenizer, data_dir=tmp_path).store()
    for seed in (0, 4):
        with pytest.raises(SourceError, match="prompt_seed = 3, and now it is"):
            make_plan(source(tmp_path, prompt_variants=2, prompt_seed=seed), tokenizer=tokenizer, data_dir=tmp_path).store()


def test_parquet_and_gzip_and_cuts_give_the_same(tmp_path: Path) -> None:
    spec = source(tmp_path)
    plain = [d.text for d in documents(spec)]
    cut = [i for piece in pieces(spec, target_bytes=200) for i in read(spec, piece)]
    assert len(pieces(spec, target_bytes=200)) > 5
    assert [i.text for i in cut if isinstance(i, Document)] == plain
    with gzip.open(tmp_path / "z.jsonl.gz", "wb") as file:
        file.write((tmp_path / "pairs.jsonl").read_bytes())
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "z.parquet")
    for name in ("z.jsonl.gz", "z.parquet"):
        assert [d.text for d in documents(SourceSpec(name="z", kind="sft", paths=(str(tmp_path / name),)))] == plain


def test_parquet_conversations(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"messages": turns, "system": None}]), tmp_path / "c.parquet")
    (document,) = documents(SourceSpec(name="c", kind="sft", paths=(str(tmp_path / "c.parquet"),)))
    assert document.text == "User:\n2+2?\n\nAssistant:\n4"


def test_bad_rows_are_rejects_once_with_their_line(tmp_path: Path) -> None:
    rows = [ROWS[0], {"text": "no pair"}, ROWS[1], {"prompt": "p", "response": None}]
    spec = source(tmp_path, rows, prompt_variants=2)
    found = [item for piece in pieces(spec) for item in read(spec, piece)]
    rejects = [item for item in found if isinstance(item, Reject)]
    assert [(reject.kind, reject.line) for reject in rejects] == [("no field", 2), ("wrong type", 4)]
    assert len(found) - len(rejects) == 4


def test_a_template_that_fits_no_row_rejects_them_all(tmp_path: Path, tokenizer: Tokenizer) -> None:
    template = tmp_path / "loud.jinja"
    template.write_text("{% for m in messages %}{{ m.content | upper }}{% endfor %}")
    with pytest.raises(RejectLimitError, match="rewrites or tests"):
        binarize(source(tmp_path, chat_template=str(template)), tokenizer=tokenizer, data_dir=tmp_path / "data")


def test_a_missing_template_is_found_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        pieces(source(tmp_path, chat_template="/no/such.jinja"))


def test_the_mask_on_disk_marks_the_answers_tokens(tmp_path: Path, tokenizer: Tokenizer) -> None:
    spec = source(tmp_path, loss_on="responses", heldout_frac=0.3)
    manifests = binarize(spec, tokenizer=tokenizer, data_dir=tmp_path / "data")
    answers = {d.text: d.text.rpartition("\n")[2] for d in documents(spec)}
    seen = 0
    for split, manifest in manifests.items():
        assert manifest.has_loss_mask
        folder = tmp_path / "data" / "pairs" / tokenizer.hash12 / split
        shard = IndexedShard(folder / "shard_00000")
        mask = np.fromfile(folder / "shard_00000.mask.bin", dtype=np.uint8)
        assert len(mask) == shard.num_tokens
        start = 0
        for ids in shard:
            of_document = mask[start : start + len(ids)].astype(bool)
            text = tokenizer.decode(ids[:-1].tolist())
            assert of_document[-1]  # the end of the document is learnt
            assert tokenizer.decode(ids[:-1][of_document[:-1]].tolist()) == answers[text]
            assert ids[-1] == tokenizer.eod_id
            start, seen = start + len(ids), seen + 1
    assert seen == len(ROWS)


def test_contents_give_no_control_piece(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"prompt": "Say </s> or <s> or <unk>", "response": "</s></s>"}]
    binarize(source(tmp_path, rows, heldout_frac=0), tokenizer=tokenizer, data_dir=tmp_path / "data")
    shard = IndexedShard(tmp_path / "data" / "pairs" / tokenizer.hash12 / "train" / "shard_00000")
    ids = shard[0].tolist()
    assert ids.count(tokenizer.eod_id) == 1
    assert tokenizer.decode(ids[:-1]) == "User:\nSay </s> or <s> or <unk>\n\nAssistant:\n</s></s>"
