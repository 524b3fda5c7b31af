"""Drop lists, from the list to the shards: what is named is left out, by every reader, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from data_prep.binarize import binarize, total_counts
from data_prep.dedup.drops import DropList, id_hash, write_drops
from data_prep.errors import DataError, SourceError
from data_prep.indexed import IndexedShard
from data_prep.plan import make_plan
from data_prep.sources import SourceSpec, documents
from data_prep.tokenizer import Tokenizer

TEXTS = [f"Text number {n}: {'some words ' * (n % 5 + 1)}" for n in range(40)]


def decoded(folder: Path, tokenizer: Tokenizer) -> list[str]:
    return [
        tokenizer.decode(ids[:-1].tolist())
        for path in sorted(folder.glob("*.idx"))
        for ids in IndexedShard(path.with_suffix(""))
    ]


def write(tmp_path: Path, kind: str) -> SourceSpec:
    """The texts as a source; for JSONL with a blank line and an escaped one among them, which other code reads."""
    path = tmp_path / f"texts.{'parquet' if kind == 'parquet' else 'jsonl'}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path, row_group_size=7)
    elif kind == "sft":
        path.write_text("".join(json.dumps({"prompt": text, "response": f"Yes: {text}"}) + "\n" for text in TEXTS))
    else:
        lines = [json.dumps({"text": text}) for text in TEXTS]
        lines[5] = lines[5].replace("Text", "\\u0054ext").replace("number", "n\\u0075mber")
        lines.insert(9, "")
        path.write_text("\n".join(lines))
    return SourceSpec(name="some", kind=kind, paths=(str(path),), heldout_frac=0.2, rejects_max_frac=0.1)


@pytest.mark.parametrize("native", ["0", "1"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "sft"])
def test_named_documents_are_left_out_and_counted(
    tmp_path: Path, tokenizer: Tokenizer, kind: str, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDTUNNEL_NATIVE", native)
    spec = write(tmp_path, kind)
    found = list(documents(spec))
    gone = [3, 5, 6, 8, 9, 10, 39]
    write_drops(tmp_path, "some", by="dedup", hashes=np.array([id_hash(found[n].id) for n in gone[:4]], dtype=np.uint64))
    write_drops(
        tmp_path, "some", by="contamination", hashes=np.array([id_hash(found[n].id) for n in gone[3:]], dtype=np.uint64)
    )
    manifests = binarize(spec, tokenizer=tokenizer, data_dir=tmp_path)
    plan = make_plan(spec, tokenizer=tokenizer, data_dir=tmp_path)
    kept = sorted(found[n].text for n in range(len(TEXTS)) if n not in gone)
    assert sorted(text for split in ("train", "heldout") for text in decoded(plan.split_dir(split), tokenizer)) == kept
    counts = total_counts(plan)
    assert (counts.num_dropped, counts.num_read - counts.num_rejected) == (len(gone), len(TEXTS))
    assert sum(manifest.num_documents for manifest in manifests.values()) == len(TEXTS) - len(gone)


def test_shards_made_before_a_list_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    spec = write(tmp_path, "jsonl")
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path)
    write_drops(tmp_path, "some", by="dedup", hashes=np.array([1], dtype=np.uint64))
    with pytest.raises(SourceError, match="drops_sha256"):
        binarize(spec, tokenizer=tokenizer, data_dir=tmp_path)


def test_ids_are_the_same_however_parquet_is_cut(tmp_path: Path) -> None:
    from data_prep.sources import pieces, read

    spec = write(tmp_path, "parquet")
    whole = [document.id for document in documents(spec)]
    cut = [item.id for piece in pieces(spec, target_bytes=1) for item in read(spec, piece)]
    assert cut == whole
    assert len(set(whole)) == len(TEXTS)


def test_all_wordings_of_a_record_go_with_it(tmp_path: Path) -> None:
    write_drops(tmp_path, "some", by="dedup", hashes=np.array([id_hash("a.jsonl:12")], dtype=np.uint64))
    drops = DropList.load(tmp_path, "some")
    assert all(name in drops for name in ("a.jsonl:12", "a.jsonl:12@1", "a.jsonl:12@23"))
    assert not any(name in drops for name in ("a.jsonl:1", "a.jsonl:12@x", "12", "@12"))


def test_an_empty_list_is_no_list(tmp_path: Path) -> None:
    write_drops(tmp_path, "some", by="dedup", hashes=np.zeros(0, dtype=np.uint64))
    drops = DropList.load(tmp_path, "some")
    assert not drops
    assert drops.digest == ""
    assert "anything" not in drops


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_damaged_list_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = write_drops(tmp_path, "some", by="dedup", hashes=np.array([7, 8], dtype=np.uint64))
    if content is None:
        np.save(path, np.zeros((2, 2)))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"drop-dedup\.npy: not a drop list"):
        DropList.load(tmp_path, "some")
