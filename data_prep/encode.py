"""Blocks of text to tokens: the tokenizer library's own ids, by the fastest way that gives exactly those."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.block import Block
from data_prep.tokenizer import SentencePieceTokenizer, Tokenizer


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

    native = None

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
    return PlainEncoder(tokenizer)
