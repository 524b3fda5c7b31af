"""Small true tokenizers, trained once a session on the standard library."""

import json
from pathlib import Path

import pytest

from data_prep.tokenizer import SentencePieceTokenizer, Tokenizer, train_unigram


def library_texts() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(Path(json.__file__).parent.glob("*.py"))]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return library_texts()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Tokenizer:
    return train_unigram(texts, out_dir=tmp_path_factory.mktemp("tokenizer"), vocab_size=500)


def with_scores(tokenizer: Tokenizer, path: Path, change) -> SentencePieceTokenizer:
    """The same model with other scores of its ordinary pieces."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.path.read_bytes())
    for piece in proto.pieces:
        if piece.type == sentencepiece_model_pb2.ModelProto.SentencePiece.NORMAL:
            piece.score = change(piece.score)
    path.write_bytes(proto.SerializeToString())
    return SentencePieceTokenizer(path)
