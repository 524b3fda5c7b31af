"""Tokenizers keep text whole, and say clearly what they can't do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from data_prep.errors import TokenizerError
from data_prep.tokenizer import MAX_SENTENCE_BYTES, SentencePieceTokenizer, load_tokenizer, sentences, train_unigram
from tests.data_prep.fuzz import fuzzed


def test_lossless(tokenizer: SentencePieceTokenizer, texts: list[str]) -> None:
    for text in [*texts, *fuzzed(random.Random(5), texts, 300), "  two  spaces\n\n\ttab\r\n", "\0"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\u2581", " ")


def test_specials_in_text_are_text(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.eod_id not in tokenizer.encode("a </s> b <s> <unk>")


def test_sentences_lose_nothing(texts: list[str]) -> None:
    long = ["x" * 50_000, "中" * 20_000, "".join(texts)]
    cut = list(sentences(long))
    assert "".join(cut) == "".join(long)
    assert max(len(part.encode()) for part in cut) <= MAX_SENTENCE_BYTES


def test_bpe_of_tokenizers(texts: list[str], tmp_path: Path) -> None:
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=600, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    )
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path)
    assert loaded.eod_id == 0
    assert loaded.encode(texts[0]) == bpe.encode(texts[0]).ids
    assert loaded.decode(loaded.encode(texts[-1])) == texts[-1]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="holds neither"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(TokenizerError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path)
    with pytest.raises(TokenizerError, match="vocab_size=100: 256 bytes"):
        train_unigram(["text"], out_dir=tmp_path, vocab_size=100)
    with pytest.raises(TokenizerError, match="SentencePiece cannot train it"):
        train_unigram(["too little text for that"], out_dir=tmp_path / "new", vocab_size=50_000)
    assert not (tmp_path / "new").exists()
