"""The format: byte for byte what megatron-core's own builder writes, and read back the same."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep import indexed
from data_prep.errors import ShardError
from data_prep.indexed import IndexedShard, IndexedWriter
from tests.data_prep.conftest import PRINT_PEAK


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


def test_a_document_that_int32_lengths_cannot_say(tmp_path: Path) -> None:
    writer = IndexedWriter(io.BytesIO(), io.BytesIO(), dtype=np.dtype(np.uint16))
    with pytest.raises(ShardError, match=r"a document of 2147483648 tokens.*cut it"):
        writer.append(np.zeros(0, np.uint16), np.array([2**31]))


@pytest.mark.slow
def test_index_of_100_million_documents_in_bounded_memory(tmp_path: Path) -> None:
    """Short documents, in a process of its own whose peak memory is read."""
    code = (
        "import numpy as np; from data_prep.indexed import IndexedWriter\n"
        f"folder = {str(tmp_path)!r}\n"
        "with open(folder + '/s.bin', 'wb') as b, open(folder + '/s.len', 'w+b') as l, open(folder + '/s.idx', 'wb') as i:\n"
        "    writer = IndexedWriter(b, l, dtype=np.dtype(np.uint16))\n"
        "    ids, sizes = np.tile(np.array([7, 2], np.uint16), 1_000_000), np.full(1_000_000, 2)\n"
        "    for _ in range(100): writer.append(ids, sizes)\n"
        "    writer.write_index(i)\n"
        f"{PRINT_PEAK}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 256_000  # KiB
    shard = IndexedShard(tmp_path / "s")
    assert (shard.num_documents, int(shard.pointers[-1]), int(shard.document_indices[-1])) == (10**8, 4 * (10**8 - 1), 10**8)
