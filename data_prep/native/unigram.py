"""The exact Unigram encoder from Python: which models it is exact for, and blocks of text to tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_prep.native.build import PAD_BYTES, NativeUnavailableError, library
from data_prep.tokenizer import SentencePieceTokenizer

TESTED_VERSIONS = ("0.2.3",)  # SentencePiece's tie-breaking by rounding is its version's own
LOG2_LINES = 18  # of the chunk table: 2^18 lines of two chunks, 16 MB
ID_SLACK = 32  # ids written past the end by whole copies
SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # sentencepiece_model.proto


class Piece(NamedTuple):
    """One entry of the vocabulary; its id is its position."""

    text: str
    score: float
    type: int


def model_proto(tokenizer: SentencePieceTokenizer):
    """The model file as the message it is."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(tokenizer.path.read_bytes())
    return proto


def read_pieces(proto) -> list[Piece]:
    """The vocabulary (walking through the message itself is slow)."""
    return [Piece(piece.piece, piece.score, piece.type) for piece in proto.pieces]


def why_not_exact(proto, pieces: list[Piece]) -> str:
    """Why the encoder would not be exact for a model; empty where it is."""
    import sentencepiece

    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    normal = [piece for piece in pieces if piece.type == NORMAL]
    user_defined = [piece for piece in pieces if piece.type == USER_DEFINED]
    in_trie = [piece.text for piece in normal + user_defined]
    reasons = {
        f"sentencepiece {sentencepiece.__version__} was not tested": sentencepiece.__version__ not in TESTED_VERSIONS,
        "not a Unigram model": trainer.model_type != trainer.UNIGRAM,
        "no byte fallback": not trainer.byte_fallback,
        "whitespace is a suffix": trainer.treat_whitespace_as_suffix,
        f"its normalizer is {normalizer.name or 'unnamed'}": bool(normalizer.precompiled_charsmap),
        "it adds a dummy prefix": normalizer.add_dummy_prefix,
        "it removes extra whitespace": normalizer.remove_extra_whitespaces,
        "it does not escape whitespace": not normalizer.escape_whitespaces,
        "it has no piece for a space": [piece.text for piece in normal].count(SPACE) != 1,
        "it has unused pieces": any(piece.type == UNUSED for piece in pieces),
        "its byte pieces are not 256 in a row": not _bytes_in_a_row(pieces),
        "a piece has a space": any(" " in text for text in in_trie),
        "a user-defined piece has U+2581": any(SPACE in piece.text for piece in user_defined),
        "a piece's score is above 0": any(piece.score > 0 for piece in normal),
        "a piece is there twice": len(set(in_trie)) != len(in_trie),
        "a piece is empty or holds NUL": any(not text or "\0" in text for text in in_trie),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def _bytes_in_a_row(pieces: list[Piece]) -> bool:
    ids = [i for i, piece in enumerate(pieces) if piece.type == BYTE]
    wanted = [f"<0x{value:02X}>" for value in range(256)]
    return [pieces[i].text for i in ids] == wanted and ids[-1] - ids[0] == 255


class NativeUnigram:
    """Texts to a SentencePiece Unigram model's own ids.

    Args:
        tokenizer: The model.
        log2_lines: Size of the chunk table; 2^log2_lines lines of 64 bytes.

    Raises:
        NativeUnavailableError: The model is one that the encoder is not exact for, or there is no compiled library.
    """

    def __init__(self, tokenizer: SentencePieceTokenizer, *, log2_lines: int = LOG2_LINES) -> None:
        self._handle = None
        proto = model_proto(tokenizer)
        pieces = read_pieces(proto)
        if reason := why_not_exact(proto, pieces):
            raise NativeUnavailableError(reason)
        self._lib = library()
        self.tokenizer = tokenizer
        self._handle = self._new(pieces, log2_lines)
        if not self._handle:
            raise NativeUnavailableError("no memory for the chunk table")
        self._ids = np.empty(0, dtype=tokenizer.dtype)

    def _new(self, pieces: list[Piece], log2_lines: int) -> int | None:
        ids = np.array([i for i, piece in enumerate(pieces) if piece.type in (NORMAL, USER_DEFINED)], dtype=np.int32)
        keys = [pieces[i].text.replace(SPACE, " ").encode("utf-8") for i in ids.tolist()]
        offsets = np.concatenate(([0], np.cumsum([len(key) for key in keys]))).astype(np.int64)
        scores = np.array([piece.score for piece in pieces], dtype=np.float32)
        for i, piece in enumerate(pieces):
            if piece.type == USER_DEFINED:  # unigram_model.cc, GetUserDefinedScore
                scores[i] = np.float32(0.1 * (len(piece.text.encode("utf-8")) - 1))
        lowest = min(piece.score for piece in pieces if piece.type == NORMAL)
        unknown = np.float32(lowest) - np.float32(10.0)  # unigram_model.cc, kUnkPenalty
        byte_base = next(i for i, piece in enumerate(pieces) if piece.type == BYTE)
        blob = b"".join(keys) + bytes(PAD_BYTES)
        arrays = (blob, offsets.ctypes.data, ids.ctypes.data, len(ids), scores.ctypes.data)
        width = self.tokenizer.dtype.itemsize
        return self._lib.wt_new(*arrays, len(scores), float(unknown), byte_base, width, log2_lines)

    def __del__(self) -> None:
        if self._handle:
            self._lib.wt_free(self._handle)

    def encode(self, blob: np.ndarray, offsets: np.ndarray, *, ends: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids of texts that are valid UTF-8.

        Args:
            blob: uint8, with PAD_BYTES readable bytes after the last text.
            offsets: Where each text starts, and the end, int64. [num_texts + 1]
            ends: uint8, after which texts end-of-document is written (all if None). [num_texts]

        Returns:
            Ids (a view that the next call overwrites) [num_ids], and how many each text has, int64 [num_texts].
        """
        assert blob.dtype == np.uint8, blob.dtype
        assert offsets.dtype == np.int64, offsets.dtype
        assert int(offsets[-1]) + PAD_BYTES <= len(blob), (int(offsets[-1]), len(blob))
        count = len(offsets) - 1
        need = int(offsets[-1] - offsets[0]) + count + ID_SLACK
        if len(self._ids) < need:
            self._ids = np.empty(need + need // 4, dtype=self.tokenizer.dtype)
        sizes = np.empty(count, dtype=np.int64)
        ends_at = None if ends is None else ends.ctypes.data
        total = self._lib.wt_encode(
            self._handle,
            blob.ctypes.data,
            offsets.ctypes.data,
            count,
            ends_at,
            self.tokenizer.eod_id,
            self._ids.ctypes.data,
            sizes.ctypes.data,
        )
        return self._ids[:total], sizes

    def encode_texts(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, without end-of-document."""
        raw = [text.encode("utf-8") for text in texts]
        offsets = np.concatenate(([0], np.cumsum([len(text) for text in raw]))).astype(np.int64)
        ids, sizes = self.encode(padded(b"".join(raw)), offsets, ends=np.zeros(len(raw), np.uint8))
        return [part.tolist() for part in np.split(ids, np.cumsum(sizes)[:-1])] if raw else []


def padded(raw: bytes) -> np.ndarray:
    """Bytes with the zero bytes after them that the compiled code may read. [len(raw) + PAD_BYTES]"""
    return np.frombuffer(raw + bytes(PAD_BYTES), dtype=np.uint8)
