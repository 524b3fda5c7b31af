"""The format: byte for byte what megatron-core's own builder writes, and read back the same."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from data_prep import indexed
from data_prep.errors import ShardError
from data_prep.indexed import IndexedShard, IndexedWriter


def write(prefix: Path, documents: list[list[int]], dtype: np.dtype) -> None:
    with open(f"{prefix}.bin", "wb") as tokens, open(f"{prefix}.idx", "wb") as index:
        writer = IndexedWriter(tokens, io.BytesIO(), dtype=dtype)
        for document in documents:
            writer.append(np.array(document, dtype=dtype), np.array([len(document)]))
        writer.write_index(index)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("documents", [[[1, 2, 3], [4], [5] * 1000], [[7]], [[i % 60000] * (1 + i % 5) for i in range(3000)]])
def test_same_bytes_as_megatron(
    tmp_path: Path, dtype: type, documents: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    monkeypatch.setattr(indexed, "SLICE_DOCUMENTS", 7)  # many slices
    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=dtype)
    for document in documents:
        builder.add_document(np.array(document), [len(document)])
    builder.finalize(str(tmp_path / "theirs.idx"))
    write(tmp_path / "ours", documents, np.dtype(dtype))
    for suffix in ("bin", "idx"):
        assert (tmp_path / f"ours.{suffix}").read_bytes() == (tmp_path / f"theirs.{suffix}").read_bytes()


def test_read_back(tmp_path: Path) -> None:
    documents = [[1, 2, 3], [4], [5, 6]]
    write(tmp_path / "a.b", documents, np.dtype(np.uint16))
    shard = IndexedShard(tmp_path / "a.b")
    assert [document.tolist() for document in shard] == documents
    assert (shard.num_documents, shard.num_tokens) == (3, 6)
    assert shard.pointers.tolist() == [0, 6, 8]
    assert shard.tokens.tolist() == [1, 2, 3, 4, 5, 6]


def test_megatron_reads_ours(tmp_path: Path) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    write(tmp_path / "s", [[1, 2, 3], [4]], np.dtype(np.uint16))
    dataset = IndexedDataset(str(tmp_path / "s"))
    assert [dataset[i].tolist() for i in range(2)] == [[1, 2, 3], [4]]
    assert dataset.document_indices.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: p.with_suffix(".bin").unlink(), "No such file"),
        (lambda p: p.with_suffix(".idx").write_bytes(b"short"), "not an index"),
        (lambda p: p.with_suffix(".idx").write_bytes(p.with_suffix(".idx").read_bytes()[:-8]), "cut short"),
        (lambda p: p.with_suffix(".bin").write_bytes(p.with_suffix(".bin").read_bytes()[:-2]), "cut or swapped"),
    ],
)
def test_damage_is_an_error(tmp_path: Path, damage, says: str) -> None:
    write(tmp_path / "s", [[1, 2, 3], [4]], np.dtype(np.uint16))
    damage(tmp_path / "s")
    with pytest.raises(ShardError, match=says):
        IndexedShard(tmp_path / "s")
