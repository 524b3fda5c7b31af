"""Tokenizers: train a SentencePiece Unigram model with settings that keep text whole, or load one that exists.

Lossless: identity normaliser, no dummy prefix, every space kept, bytes for what the vocabulary lacks, so that decoding
gives the text back. The one exception is SentencePiece's own: a literal U+2581 in the text comes back as a space.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.atomic import replacing, write_json
from data_prep.errors import TokenizerError

MODEL_NAME = "tokenizer.model"
JSON_NAME = "tokenizer.json"
END_OF_DOCUMENT = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>")
MAX_SENTENCE_BYTES = 16_384  # at SentencePiece's default of 4,192 it skips 4.6 % of the bytes, here 0.1 %
TRAIN_THREADS = 4  # fixed: the sums of EM depend on how sentences are dealt to threads, and so would the vocabulary
UINT16_VOCAB_MAX = 65_500  # Megatron-Core's DType.optimal_dtype


class Tokenizer(ABC):
    """Text to ids and back.

    Attributes:
        path: The model file.
        sha256: Digest of the model file's bytes; what manifests and checkpoints are tied to.
        vocab_size: Number of ids.
        eod_id: The id that ends every document.
    """

    kind: str
    processor: Any
    path: Path
    sha256: str
    vocab_size: int
    eod_id: int

    @property
    def hash12(self) -> str:
        """The digest's first 12 characters: the tokenizer's name in the data directory."""
        return self.sha256[:12]

    @property
    def dtype(self) -> np.dtype:
        """Type of tokens on disk."""
        return np.dtype(np.uint16 if self.vocab_size < UINT16_VOCAB_MAX else np.int32)

    def encode(self, text: str) -> list[int]:
        """Ids of one text, without end-of-document."""
        return self.encode_batch([text])[0]

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without end-of-document."""

    @abstractmethod
    def control_id(self, name: str) -> int | None:
        """The id of a control piece by its name; ``</s>`` is the end of a document whatever its spelling; else None."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text; ids that are no text (end of document) give nothing."""


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model (Unigram or BPE)."""

    kind = "sentencepiece"

    def __init__(self, path: Path) -> None:
        import sentencepiece

        self.path = path
        proto = _read(path)
        self.sha256 = hashlib.sha256(proto).hexdigest()
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        except (RuntimeError, ValueError) as error:
            raise TokenizerError(f"{path}: not a SentencePiece model: {error}") from error
        self.vocab_size = self.processor.vocab_size()
        self.eod_id = self.processor.eos_id()
        if self.eod_id < 0:
            raise TokenizerError(f"{path}: the model has no </s>, which ends every document")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.processor.encode(list(texts), num_threads=1)

    def control_id(self, name: str) -> int | None:
        position = self.processor.piece_to_id(name)
        return self.eod_id if name == "</s>" else position if self.processor.is_control(position) else None

    def decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode([int(i) for i in ids])


class HuggingFaceTokenizer(Tokenizer):
    """A tokenizer.json (BPE and others), by the tokenizers library."""

    kind = "huggingface"

    def __init__(self, path: Path) -> None:
        import tokenizers

        self.path = path
        content = _read(path)
        self.sha256 = hashlib.sha256(content).hexdigest()
        try:
            self.processor = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # the library raises plain Exception
            raise TokenizerError(f"{path}: not a tokenizer.json: {error}") from error
        self.vocab_size = self.processor.get_vocab_size(with_added_tokens=True)
        found = [self.processor.token_to_id(name) for name in END_OF_DOCUMENT]
        self.eod_id = next((i for i in found if i is not None), -1)
        if self.eod_id < 0:
            raise TokenizerError(f"{path}: none of {', '.join(END_OF_DOCUMENT)} is there to end documents with")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self.processor.encode_batch_fast(list(texts), add_special_tokens=False)]

    def control_id(self, name: str) -> int | None:
        added = {token.content: i for i, token in self.processor.get_added_tokens_decoder().items() if token.special}
        return self.eod_id if name == "</s>" else added.get(name)

    def decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode([int(i) for i in ids], skip_special_tokens=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read: {error.strerror or error}") from error


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Loads a tokenizer: its folder, a SentencePiece ``.model`` or a ``tokenizer.json``.

    Raises:
        TokenizerError: It is not there, or is neither of them.
    """
    path = Path(path)
    if path.is_dir():
        inside = [path / name for name in (MODEL_NAME, JSON_NAME) if (path / name).is_file()]
        if not inside:
            raise TokenizerError(f"{path}: holds neither {MODEL_NAME} nor {JSON_NAME}")
        path = inside[0]
    return HuggingFaceTokenizer(path) if path.suffix == ".json" else SentencePieceTokenizer(path)


def sentences(texts: Iterable[str]) -> Iterator[str]:
    """Cuts texts for the trainer, which drops what exceeds MAX_SENTENCE_BYTES: after a newline where there is one.

    Nothing is lost or changed: the cuts join to the texts.
    """
    longest = MAX_SENTENCE_BYTES // 4 - 1  # characters: at most 4 bytes each
    for text in texts:
        start = 0
        while start < len(text):
            end = start + longest
            if end < len(text):
                end = text.rfind("\n", start, end) + 1 or end
                end = end if end > start else start + longest
            yield text[start:end]
            start = end


def train_unigram(
    texts: Iterable[str],
    *,
    out_dir: Path | str,
    vocab_size: int,
    character_coverage: float = 0.9995,
    facts: dict[str, Any] | None = None,
) -> Tokenizer:
    """Trains a SentencePiece Unigram model and writes ``tokenizer.model`` and ``meta.json`` into ``out_dir``.

    Args:
        texts: Training texts; read once, held in memory by the trainer (0.7 GB for 32 MB of text at 65,280 pieces).
        out_dir: Folder for the two files.
        vocab_size: Number of ids: 256 bytes, 3 specials, newline, tab, and pieces.
        character_coverage: Share of characters that get a piece of their own; bytes stand in for the rest.
        facts: Kept in meta.json beside the settings (what it was trained on).

    Raises:
        TokenizerError: The text is too little for that many pieces, or the size cannot hold bytes and specials.
    """
    import sentencepiece

    if vocab_size < 300:
        raise TokenizerError(f"tokenizer.vocab_size={vocab_size}: 256 bytes, 5 specials and characters need at least 300")
    settings: dict[str, Any] = {
        "model_type": "unigram",
        "vocab_size": vocab_size,
        "character_coverage": character_coverage,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
        "byte_fallback": True,
        "user_defined_symbols": ["\n", "\t"],
        "max_sentence_length": MAX_SENTENCE_BYTES,
        "num_threads": TRAIN_THREADS,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": -1,
    }
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences(texts), model_writer=model, minloglevel=2, **settings
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise TokenizerError(f"tokenizer.vocab_size={vocab_size}: SentencePiece cannot train it: {error}") from error
    out_dir = Path(out_dir)
    with replacing(out_dir / MODEL_NAME) as file:
        file.write(model.getvalue())
    tokenizer = load_tokenizer(out_dir)
    meta = {"format": 1, "sha256": tokenizer.sha256, "vocab_size": tokenizer.vocab_size, "eod_id": tokenizer.eod_id}
    write_json(
        out_dir / "meta.json",
        {**meta, "settings": settings, "sentencepiece": sentencepiece.__version__} | (facts or {}),
    )
    return tokenizer
