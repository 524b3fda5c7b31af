"""BPE tokenizers of a tokenizer.json: the tokenizers library's own ids, by gigatoken where that is exact."""

from __future__ import annotations

import random
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from data_prep.encode import GigatokenEncoder, PlainEncoder, make_encoder
from data_prep.errors import ExactnessError
from data_prep.sources.block import from_documents
from data_prep.sources.spec import Document, Segment
from data_prep.tokenizer import HuggingFaceTokenizer, load_tokenizer
from tests.data_prep.fuzz import fuzzed

pytestmark = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler on this machine"
)


@pytest.fixture(scope="module")
def bpe(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTokenizer:
    """Byte-level BPE of 1,500 pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    settings = {"special_tokens": ["<|endoftext|>"], "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    trainer = trainers.BpeTrainer(vocab_size=1500, show_progress=False, **settings)
    tokenizer.train_from_iterator([text[:5000] for text in texts], trainer)
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    tokenizer.save(str(path))
    return load_tokenizer(path)  # type: ignore[return-value]


def assert_same(tokenizer: HuggingFaceTokenizer, documents: list[Document]) -> None:
    (block,) = from_documents(documents)
    fast, plain = GigatokenEncoder(tokenizer).encode(block), PlainEncoder(tokenizer).encode(block)
    assert fast.ids.dtype == plain.ids.dtype
    assert fast.sizes.tolist() == plain.sizes.tolist()
    assert fast.ids.tolist() == plain.ids.tolist()
    assert (fast.mask is None) == (plain.mask is None)
    assert fast.mask is None or fast.mask.tolist() == plain.mask.tolist()


@pytest.mark.parametrize("seed", range(2))
def test_the_library_s_own_ids(bpe: HuggingFaceTokenizer, texts: list[str], seed: int) -> None:
    some = [text for text in fuzzed(random.Random(seed), texts, 800) if text]
    assert_same(bpe, [Document(text) for text in [*some, *(text[:3000] for text in texts[::5])]])


def test_segments(bpe: HuggingFaceTokenizer) -> None:
    parts = (Segment("Question: 1+1?\n", False), Segment("2", True), Segment("</s>", True, special=True))
    assert_same(bpe, [Document("plain"), Document("Question: 1+1?\n2</s>", segments=parts), Document("last")])


def test_self_check_stops(bpe: HuggingFaceTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder(bpe)
    assert isinstance(encoder, GigatokenEncoder)
    monkeypatch.setattr(encoder.tokenizer, "encode", lambda text: [1, 2, 3])
    (block,) = from_documents([Document("some text")])
    with pytest.raises(ExactnessError, match="the gigatoken encoder differs from huggingface at token 0"):
        encoder.encode(block)


def test_another_version_is_not_used(bpe: HuggingFaceTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "99.0")
    assert make_encoder(bpe).description.endswith("own encoder (the fast one can't be used: gigatoken 99.0 was not tested)")


def test_other_models_use_the_library(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"<eos>": 0, "one": 1, "<unk>": 2}, unk_token="<unk>"))
    words.save(str(tmp_path / "tokenizer.json"))
    encoder = make_encoder(load_tokenizer(tmp_path))
    assert "not a BPE model" in encoder.description
    (block,) = from_documents([Document("one")])
    assert encoder.encode(block).ids.tolist() == [1, 0]
