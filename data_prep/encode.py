"""Blocks of text to tokens: the tokenizer library's own ids, by the fastest way that gives exactly those."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import orjson

from data_prep.errors import ExactnessError
from data_prep.native.build import NativeUnavailableError, library
from data_prep.native.unigram import NativeUnigram, padded
from data_prep.sources import Block
from data_prep.tokenizer import HuggingFaceTokenizer, SentencePieceTokenizer, Tokenizer

CHECK_FIRST_BYTES = 1 << 17
CHECK_MODULUS = 2_000  # one document in so many is encoded by sentencepiece too
CHECK_FRAC = 1 / CHECK_MODULUS
CHECK_LONGEST_BYTES = 1 << 20
GIGATOKEN_TESTED = ("0.10.0",)


@dataclass
class Encoded:
    """A block's tokens.

    Attributes:
        ids: Flat, in the tokenizer's dtype on disk; each document ends with end-of-document. [num_tokens]
        sizes: Tokens of each document, int64. [num_documents]
        mask: Whether each token counts in the loss, uint8; None where all do. [num_tokens]
    """

    ids: np.ndarray
    sizes: np.ndarray
    mask: np.ndarray | None = None


class PlainEncoder:
    """The tokenizer's own library, text by text."""

    fast = False

    def __init__(self, tokenizer: Tokenizer, *, why: str = "") -> None:
        self.tokenizer = tokenizer
        self.description = f"{tokenizer.kind}'s own encoder" + (f" ({why})" if why else "")

    def encode(self, block: Block) -> Encoded:
        """Tokens of one block."""
        texts: list = block.texts()
        if not isinstance(self.tokenizer, SentencePieceTokenizer):
            texts = [text.decode("utf-8") for text in texts]
        ids = self.tokenizer.encode_batch(texts)
        if block.first_text is None and not block.special:
            return _join_plain(ids, block, self.tokenizer)
        return join_segments(ids, block, self.tokenizer)


class CheckedEncoder(PlainEncoder):
    """A faster encoder than the tokenizer's own library, checked against it on a sample of what it encodes.

    The sample: the first CHECK_FIRST_BYTES of a job, and then each document whose split key falls into CHECK_FRAC.
    """

    name = ""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.description = f"{self.name}, checked against {tokenizer.kind} on {CHECK_FRAC:.2%} of documents"
        self.num_checked = self._checked_bytes = 0

    @abstractmethod
    def flat_ids(self, block: Block, *, ended: bool) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a block's texts, end to end, each with its end-of-document if ``ended``, and how many each has (int64)."""

    def encode(self, block: Block) -> Encoded:
        if block.first_text is None and not block.special:
            ids, sizes = self.flat_ids(block, ended=True)
            self._check(block, ids, sizes)
            mask = None if block.loss is None else np.repeat(block.loss.astype(np.uint8), sizes)
            return Encoded(ids, sizes, mask)
        ids, sizes = self.flat_ids(block, ended=False)
        return join_segments([part.tolist() for part in np.split(ids, np.cumsum(sizes)[:-1])], block, self.tokenizer)

    def _check(self, block: Block, ids: np.ndarray, sizes: np.ndarray) -> None:
        """Compares a sample with the library; raises ExactnessError on the first difference."""
        chosen = np.flatnonzero((block.keys % np.uint64(CHECK_MODULUS)) == 0)
        if self._checked_bytes < CHECK_FIRST_BYTES:
            chosen = np.union1d(chosen, np.flatnonzero(block.offsets[1:] - block.offsets[0] <= CHECK_FIRST_BYTES))
        ends, view = np.cumsum(sizes), memoryview(block.blob)  # type: ignore[arg-type]
        for document in chosen.tolist():
            text = bytes(view[int(block.offsets[document]) : int(block.offsets[document + 1])])
            self._checked_bytes += len(text)
            self.num_checked += 1
            end = int(ends[document]) - 1  # without end-of-document
            if len(text) <= CHECK_LONGEST_BYTES:
                self._compare(text, ids[end + 1 - int(sizes[document]) : end].tolist())

    def _compare(self, text: bytes, ids: list[int]) -> None:
        right = self.tokenizer.encode(text.decode("utf-8"))
        if ids == right:
            return
        both = zip(ids, right, strict=False)
        at = next((i for i, (mine, theirs) in enumerate(both) if mine != theirs), min(len(ids), len(right)))
        raise ExactnessError(
            f"the {self.name} differs from {self.tokenizer.kind} at token {at} of a text that begins {text[:60]!r}: "
            f"{ids[at : at + 4]} is not {right[at : at + 4]}. Report it; WINDTUNNEL_NATIVE=0 goes on with {self.tokenizer.kind}"
        )


class FastEncoder(CheckedEncoder):
    """The compiled Unigram encoder."""

    fast = True
    name = "compiled Unigram encoder"

    def __init__(self, tokenizer: SentencePieceTokenizer) -> None:
        super().__init__(tokenizer)
        self.native = NativeUnigram(tokenizer)

    def flat_ids(self, block: Block, *, ended: bool) -> tuple[np.ndarray, np.ndarray]:
        blob = block.blob if isinstance(block.blob, np.ndarray) else padded(block.blob)
        ends = None if ended else np.zeros(len(block.offsets) - 1, np.uint8)
        return self.native.encode(blob, block.offsets, ends=ends)


class GigatokenEncoder(CheckedEncoder):
    """gigatoken, for the BPE models of a tokenizer.json; installed by the extra ``bpe``.

    Raises:
        NativeUnavailableError: It isn't installed, is another version than was tested, or doesn't take the model; says why.
    """

    name = "gigatoken encoder"

    def __init__(self, tokenizer: HuggingFaceTokenizer) -> None:
        super().__init__(tokenizer)
        library()  # the readers that feed it are compiled ones
        self.fast = True
        try:
            version = metadata.version("gigatoken")
            import gigatoken
        except ImportError as error:
            raise NativeUnavailableError("gigatoken is not installed (extra `bpe`)") from error
        if version not in GIGATOKEN_TESTED:
            raise NativeUnavailableError(f"gigatoken {version} was not tested")
        content = tokenizer.path.read_bytes()
        if orjson.loads(content).get("model", {}).get("type") != "BPE":
            raise NativeUnavailableError("not a BPE model")
        try:
            self.processor = gigatoken.Tokenizer.from_json(content)
        except Exception as error:  # whatever the library raises: the plain path stands in
            raise NativeUnavailableError(f"gigatoken doesn't take it: {error}") from error

    def flat_ids(self, block: Block, *, ended: bool) -> tuple[np.ndarray, np.ndarray]:
        import awkward

        rows = self.processor.encode_batch(block.texts(), parallel=False)
        sizes = awkward.to_numpy(awkward.num(rows)).astype(np.int64) + ended
        ids = np.empty(int(sizes.sum()), dtype=self.tokenizer.dtype)
        inside = np.ones(len(ids), dtype=bool)
        if ended:
            inside[np.cumsum(sizes) - 1] = False
            ids[~inside] = self.tokenizer.eod_id
        ids[inside] = awkward.to_numpy(awkward.flatten(rows))
        return ids, sizes


def _join_plain(ids: list[list[int]], block: Block, tokenizer: Tokenizer) -> Encoded:
    """One text a document: each followed by end-of-document."""
    sizes = np.fromiter((len(text) + 1 for text in ids), np.int64, len(ids))
    flat = np.empty(int(sizes.sum()), dtype=tokenizer.dtype)
    position = 0
    for text in ids:
        end = position + len(text)
        flat[position:end] = text
        flat[end] = tokenizer.eod_id
        position = end + 1
    mask = None if block.loss is None else np.repeat(block.loss.astype(np.uint8), sizes)
    return Encoded(flat, sizes, mask)


def join_segments(ids: list[list[int]], block: Block, tokenizer: Tokenizer) -> Encoded:
    """Several texts a document: special ones become their control piece, and the end is marked once."""
    first = block.first_text if block.first_text is not None else np.arange(len(ids) + 1)
    loss = block.loss if block.loss is not None else np.ones(len(ids), dtype=bool)
    flat: list[int] = []
    mask: list[int] = []
    sizes = np.empty(block.num_documents, dtype=np.int64)
    for document in range(block.num_documents):
        before = len(flat)
        ended = False
        for position in range(int(first[document]), int(first[document + 1])):
            name = block.special.get(position)
            piece = None if name is None else tokenizer.control_id(name)
            text = ids[position] if piece is None else [piece]
            ended = piece == tokenizer.eod_id
            flat += text
            mask += [int(loss[position])] * len(text)
        if not ended:
            flat.append(tokenizer.eod_id)
            mask.append(int(loss[int(first[document + 1]) - 1]))
        sizes[document] = len(flat) - before
    return Encoded(np.array(flat, dtype=tokenizer.dtype), sizes, np.array(mask, dtype=np.uint8))


def make_encoder(tokenizer: Tokenizer) -> PlainEncoder:
    """The fastest encoder that gives the tokenizer's own ids on this machine; its ``description`` says which and why."""
    try:
        if isinstance(tokenizer, SentencePieceTokenizer):
            return FastEncoder(tokenizer)
        assert isinstance(tokenizer, HuggingFaceTokenizer), tokenizer
        return GigatokenEncoder(tokenizer)
    except NativeUnavailableError as reason:
        return PlainEncoder(tokenizer, why=f"the fast one can't be used: {reason}")
