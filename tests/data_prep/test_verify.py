"""Every kind of damage is found, by code that shares nothing with the writer."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep.binarize import binarize
from data_prep.tokenizer import SentencePieceTokenizer
from data_prep.verify import Expected, verify


@pytest.fixture
def shards(spec, tokenizer: SentencePieceTokenizer, tmp_path: Path) -> Path:
    """The train split of a source with several shards, sound."""
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=300_000)
    assert verify(tmp_path) == []
    return tmp_path / "mixed" / tokenizer.hash12 / "train"


@pytest.mark.parametrize("suffix", ["bin", "idx"])
@pytest.mark.parametrize("seed", range(6))
def test_flipped_bit(shards: Path, suffix: str, seed: int) -> None:
    path = shards / f"shard_00001.{suffix}"
    raw = bytearray(path.read_bytes())
    raw[random.Random(seed).randrange(len(raw))] ^= 1 << seed
    path.write_bytes(raw)
    assert any(f"shard_00001.{suffix}" in problem for problem in verify(shards))


@pytest.mark.parametrize("suffix", ["bin", "idx"])
@pytest.mark.parametrize("cut", [1, 2, 8, 1000])
def test_cut(shards: Path, suffix: str, cut: int) -> None:
    path = shards / f"shard_00000.{suffix}"
    path.write_bytes(path.read_bytes()[:-cut])
    assert any("cut" in problem for problem in verify(shards))


@pytest.mark.parametrize("suffixes", [("bin",), ("idx",), ("bin", "idx")])
def test_swapped(shards: Path, suffixes: tuple[str, ...]) -> None:
    for suffix in suffixes:
        a, b = shards / f"shard_00000.{suffix}", shards / f"shard_00001.{suffix}"
        first, second = a.read_bytes(), b.read_bytes()
        a.write_bytes(second)
        b.write_bytes(first)
    assert any("swapped" in problem for problem in verify(shards))


def test_missing_and_extra_files(shards: Path) -> None:
    shutil.copy(shards / "shard_00000.bin", shards / "shard_00099.bin")
    (shards / "shard_00001.idx").unlink()
    problems = "\n".join(verify(shards))
    assert "shard_00099.bin: not in manifest.json" in problems
    assert "shard_00001.idx: no such file" in problems


@pytest.mark.parametrize(
    ("key", "value"), [("num_tokens", 5), ("tokenizer_sha256", "0" * 64), ("vocab_size", 10), ("eod_id", 7), ("text_bytes", 1)]
)
def test_changed_manifest(shards: Path, key: str, value: object) -> None:
    path = shards / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert any("changed after it was written" in problem for problem in verify(shards))


def test_other_tokenizer(shards: Path) -> None:
    assert any("made with tokenizer" in problem for problem in verify(shards, tokenizer_sha256="f" * 64))


def test_unfinished(shards: Path) -> None:
    (shards / "manifest.json").unlink()
    assert any("not finished" in problem for problem in verify(shards))


def test_others_shards(tmp_path: Path) -> None:
    """Megatron's own output, without a manifest: sound, then with a wrong token and a missing end of document."""
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(tmp_path / "their.data.bin"), dtype=np.int32)
    for document in ([1, 2, 9], [3, 9], [4, 5, 6, 9]):
        builder.add_document(np.array(document), [len(document)])
    builder.finalize(str(tmp_path / "their.data.idx"))
    assert verify(tmp_path, expected=Expected(vocab_size=10, eod_id=9)) == []
    assert any("outside 0 to 8" in problem for problem in verify(tmp_path, expected=Expected(vocab_size=9)))
    assert any("not with end-of-document 8" in problem for problem in verify(tmp_path, expected=Expected(eod_id=8)))
    assert verify(tmp_path / "nothing") == [f"{tmp_path / 'nothing'}: no such folder"]
