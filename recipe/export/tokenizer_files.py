"""The tokenizer as transformers loads it, with a tokenizer.json whose ids are compared with SentencePiece's on real text.

Equal-score segmentations are told apart by rounding of a running float32 score in SentencePiece and of a float64 one in
`tokenizers`; where the scores are multiples of a power of two (our trainer makes them so) both are exact and agree. The
fast tokenizer is the default only where the comparison finds no difference; else it is transformers' one plain
SentencePiece class, which gives SentencePiece's ids by definition.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.atomic import write_json, write_text
from data_prep.tokenizer import SentencePieceTokenizer, Tokenizer

UNK_PENALTY = 10.0  # both libraries: an unknown character costs 10 more than the worst piece
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # sentencepiece_model.proto
MAX_EXAMPLES = 5


@dataclass
class Comparison:
    """How a tokenizer.json fares against SentencePiece."""

    num_documents: int = 0
    num_bytes: int = 0
    num_different: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        return self.num_documents > 0 and self.num_different == 0


def write_tokenizer(
    tokenizer: Tokenizer, folder: Path, *, texts: Iterable[str], max_tokens: int, chat_template: str | None
) -> Comparison | None:
    """Writes every tokenizer file into `folder`; returns the comparison (None for a tokenizer that is a tokenizer.json)."""
    common = {
        "model_max_length": max_tokens, "clean_up_tokenization_spaces": False, "add_bos_token": False, "add_eos_token": False,
        "padding_side": "left",
    }
    comparison = None
    if isinstance(tokenizer, SentencePieceTokenizer):
        shutil.copyfile(tokenizer.path, folder / "tokenizer.model")
        fast = fast_tokenizer(tokenizer)
        fast.save(str(folder / "tokenizer.json"))
        comparison = compare(tokenizer, fast, texts)
        common |= {key: value for key, value in _special_names(tokenizer).items() if value}
        if comparison.is_exact:
            common["tokenizer_class"] = "PreTrainedTokenizerFast"
        else:
            common |= {"tokenizer_class": "BertGenerationTokenizer", "sep_token": None}
            shutil.copyfile(tokenizer.path, folder / "spiece.model")  # the name this class looks for
    else:
        shutil.copyfile(tokenizer.path, folder / "tokenizer.json")
        common |= {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": tokenizer.processor.id_to_token(tokenizer.eod_id)}
    write_json(folder / "tokenizer_config.json", common)
    if chat_template is not None:
        write_text(folder / "chat_template.jinja", chat_template)
    return comparison


def fast_tokenizer(tokenizer: SentencePieceTokenizer) -> Any:
    """A `tokenizers.Tokenizer` with the same vocabulary, scores and decoding as a lossless SentencePiece model."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    pieces = _pieces(tokenizer)
    unknown = tokenizer.processor.unk_id()
    fast = Tokenizer(models.Unigram(_unigram_vocab(tokenizer, pieces), unk_id=unknown, byte_fallback=True))
    fast.normalizer = normalizers.Replace(" ", "▁")
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    control = [piece for piece, kind, _ in pieces if kind in (CONTROL, UNKNOWN)]
    fast.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in control])
    return fast


def _unigram_vocab(tokenizer: SentencePieceTokenizer, pieces: list[tuple[str, int, float]]) -> list[tuple[str, float]]:
    """Pieces with scores under which plain Viterbi does what SentencePiece does by type.

    Newline and tab (user-defined) get SentencePiece's own bonus. Control and byte pieces never come from text there; here
    they are given less than any way of spelling their names, since this model has no types.
    """
    scores = [score for _, kind, score in pieces if kind == NORMAL]
    best, worst = max(scores), min(scores)
    spelled = [_score_of(tokenizer, piece) for piece, kind, _ in pieces if kind in (CONTROL, UNKNOWN, UNUSED, BYTE)]
    never = min([worst, *spelled]) - UNK_PENALTY

    def score_of(piece: str, kind: int, score: float) -> float:
        if kind == USER_DEFINED:
            return len(piece.encode()) * best - 0.1
        return score if kind == NORMAL else never

    return [(piece, score_of(piece, kind, score)) for piece, kind, score in pieces]


def _score_of(tokenizer: SentencePieceTokenizer, text: str) -> float:
    processor = tokenizer.processor
    return sum(processor.get_score(index) for index in processor.encode(text))


def _pieces(tokenizer: SentencePieceTokenizer) -> list[tuple[str, int, float]]:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(  # type: ignore[attr-defined]
        tokenizer.processor.serialized_model_proto()
    )
    return [(piece.piece, piece.type, piece.score) for piece in proto.pieces]


def _special_names(tokenizer: SentencePieceTokenizer) -> dict[str, str | None]:
    processor = tokenizer.processor
    ids = {"unk_token": processor.unk_id(), "bos_token": processor.bos_id(), "eos_token": processor.eos_id()}
    names = {name: processor.id_to_piece(index) if index >= 0 else None for name, index in ids.items()}
    return names | {"pad_token": names["eos_token"]}


def compare(tokenizer: SentencePieceTokenizer, fast: Any, texts: Iterable[str]) -> Comparison:
    """Ids of both on each text; special tokens' names in the text count as text, as in training."""
    comparison = Comparison()
    fast.encode_special_tokens = True
    for text in texts:
        expected, got = tokenizer.encode(text), fast.encode(text, add_special_tokens=False).ids
        comparison.num_documents += 1
        comparison.num_bytes += len(text.encode())
        if expected != got:
            comparison.num_different += 1
            if len(comparison.examples) < MAX_EXAMPLES:
                comparison.examples.append(_first_difference(tokenizer, expected, got))
    fast.encode_special_tokens = False
    return comparison


def _first_difference(tokenizer: SentencePieceTokenizer, expected: list[int], got: list[int]) -> dict[str, Any]:
    shorter = min(len(expected), len(got))
    at = next((index for index in range(shorter) if expected[index] != got[index]), shorter)
    name = tokenizer.processor.id_to_piece
    return {
        "token": at,
        "sentencepiece": [name(index) for index in expected[at : at + 4]],
        "tokenizer_json": [name(index) for index in got[at : at + 4]],
    }
