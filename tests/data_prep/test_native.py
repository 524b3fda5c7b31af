"""The compiled encoder gives SentencePiece's own ids, and says for which models it does."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep.encode import CHECK_MODULUS, FastEncoder, PlainEncoder, make_encoder
from data_prep.errors import ExactnessError
from data_prep.native import build
from data_prep.native.build import NativeUnavailableError
from data_prep.native.unigram import NativeUnigram, model_proto, padded, read_pieces, why_not_exact
from data_prep.sources.block import Block, from_documents, split_key
from data_prep.sources.spec import Document, Segment
from data_prep.tokenizer import SentencePieceTokenizer, load_tokenizer
from tests.data_prep.fuzz import fuzzed

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler on this machine"
)


def assert_same(native: NativeUnigram, texts: list[str]) -> None:
    mine, right = native.encode_texts(texts), native.tokenizer.encode_batch(texts)
    for text, ids, wanted in zip(texts, mine, right, strict=True):
        assert ids == wanted, text[:100]


@needs_compiler
def test_real_text(tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    assert_same(NativeUnigram(tokenizer), texts)
    assert_same(NativeUnigram(tokenizer), ["".join(texts)])  # far beyond the score at which sentencepiece rebases


@needs_compiler
def test_small_table(tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    """Constant replacement in a table of 16 lines changes nothing."""
    assert_same(NativeUnigram(tokenizer, log2_lines=4), texts)


@needs_compiler
@pytest.mark.parametrize("seed", range(4))
def test_fuzzed(tokenizer: SentencePieceTokenizer, texts: list[str], seed: int) -> None:
    assert_same(NativeUnigram(tokenizer, log2_lines=8), fuzzed(random.Random(seed), texts, 1500))


@needs_compiler
@pytest.mark.slow
def test_fuzzed_100k(tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    native = NativeUnigram(tokenizer)
    for seed in range(50):
        assert_same(native, fuzzed(random.Random(1000 + seed), texts, 2000))


@needs_compiler
@pytest.mark.parametrize("unit", ["=", "-", " ", "\n", "a", "é", "中", "\U0001f600", "\0", "▁", "0", "ab", " -"])
def test_long_runs(tokenizer: SentencePieceTokenizer, unit: str) -> None:
    assert_same(NativeUnigram(tokenizer), [unit * n for n in (1, 2, 17, 63, 64, 65, 1000, 100_000 // len(unit.encode()))])


@needs_compiler
def test_ids_of_four_bytes(tokenizer: SentencePieceTokenizer, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Vocabularies above 65,499 are int32 on disk; the encoder writes them so."""
    monkeypatch.setattr(SentencePieceTokenizer, "dtype", np.dtype(np.int32))
    assert_same(NativeUnigram(tokenizer), [*texts, *fuzzed(random.Random(9), texts, 300)])


@needs_compiler
def test_blocks_with_segments(tokenizer: SentencePieceTokenizer) -> None:
    parts = (Segment("Question: 1+1?\n", False), Segment("2", True), Segment("</s>", True, special=True))
    documents = [Document("plain ▁ text", group="g"), Document("Question: 1+1?\n2</s>", segments=parts), Document("last")]
    (block,) = from_documents(documents)
    fast, plain = make_encoder(tokenizer).encode(block), PlainEncoder(tokenizer).encode(block)
    assert fast.ids.tolist() == plain.ids.tolist()
    assert fast.sizes.tolist() == plain.sizes.tolist()
    assert fast.mask.tolist() == plain.mask.tolist()
    assert fast.ids.tolist().count(tokenizer.eod_id) == 3


@needs_compiler
def test_self_check_stops(tokenizer: SentencePieceTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FastEncoder(tokenizer)
    real = encoder.native.encode

    def wrong(*args, **kwargs):
        ids, sizes = real(*args, **kwargs)
        ids = ids.copy()
        ids[3] ^= 1
        return ids, sizes

    monkeypatch.setattr(encoder.native, "encode", wrong)
    with pytest.raises(ExactnessError, match="differs from sentencepiece at token 3"):
        encoder.encode(next(from_documents([Document("some text that is checked, as the first of a job is")])))


@needs_compiler
def test_self_check_samples_later_documents(tokenizer: SentencePieceTokenizer) -> None:
    encoder = FastEncoder(tokenizer)
    encoder._checked_bytes = 1 << 30
    raw = [b"document %d" % i for i in range(20_000)]
    offsets = np.concatenate(([0], np.cumsum([len(text) for text in raw]))).astype(np.int64)
    keys = np.array([split_key(text) for text in raw], dtype=np.uint64)
    encoder.encode(Block(padded(b"".join(raw)), offsets, keys))
    assert encoder.num_checked == int((keys % np.uint64(CHECK_MODULUS) == 0).sum()) > 0


def change(tokenizer: SentencePieceTokenizer, path: Path, edit) -> SentencePieceTokenizer:
    proto = model_proto(tokenizer)
    edit(proto)
    path.write_bytes(proto.SerializeToString())
    return load_tokenizer(path)


def _no_escape(proto) -> None:
    proto.normalizer_spec.escape_whitespaces = False


def _prefix(proto) -> None:
    proto.normalizer_spec.add_dummy_prefix = True


def _strips(proto) -> None:
    proto.normalizer_spec.remove_extra_whitespaces = True


def _unused(proto) -> None:
    proto.pieces[300].type = 5


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_no_escape, "does not escape whitespace"),
        (_prefix, "adds a dummy prefix"),
        (_strips, "removes extra whitespace"),
        (_unused, "unused pieces"),
    ],
)
def test_other_models_use_sentencepiece(tokenizer: SentencePieceTokenizer, tmp_path: Path, edit, reason: str) -> None:
    other = change(tokenizer, tmp_path / "other.model", edit)
    proto = model_proto(other)
    assert reason in why_not_exact(proto, read_pieces(proto))
    encoder = make_encoder(other)
    assert not encoder.fast
    assert reason in encoder.description
    (block,) = from_documents([Document("  two  spaces")])
    assert encoder.encode(block).ids.tolist() == [*other.processor.encode("  two  spaces"), other.eod_id]


def test_without_a_compiler(tokenizer: SentencePieceTokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    build.library.cache_clear()
    with pytest.raises(NativeUnavailableError, match=r"no C\+\+ compiler"):
        NativeUnigram(tokenizer)
    encoder = make_encoder(tokenizer)
    build.library.cache_clear()
    assert not encoder.fast
    assert "no C++ compiler" in encoder.description
