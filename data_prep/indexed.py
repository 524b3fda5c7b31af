"""Megatron's indexed dataset on disk, by numpy alone: ``.bin`` (tokens, end to end) and ``.idx`` (where documents are).

Byte-identical to megatron.core.datasets.indexed_dataset.IndexedDatasetBuilder with one sequence a document:
9-byte magic, uint64 version 1, uint8 dtype code, uint64 sequences, uint64 documents + 1, int32 lengths, int64 byte
pointers, int64 document indices (0 to the number of documents). The index is written from a file of lengths, a slice
at a time, so that its memory does not grow with the number of documents.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_prep.errors import ShardError

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")  # magic, version, dtype code, sequences, document indices
DTYPE_CODES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}  # megatron-core's DType
CODE_OF = {np.dtype(name): code for code, name in DTYPE_CODES.items()}
SLICE_DOCUMENTS = 1 << 20
MAX_DOCUMENT_TOKENS = 2**31 - 1  # lengths are int32


class IndexedShard:
    """One ``prefix.bin`` with its ``prefix.idx``, mapped, not read.

    Attributes:
        tokens: All tokens, flat, in the shard's dtype. [num_tokens]
        sizes: Tokens of each sequence, int32. [num_sequences]
        pointers: Byte offset of each sequence in the .bin, int64. [num_sequences]
        document_indices: Sequence at which each document starts, and the end, int64. [num_documents + 1]

    Raises:
        ShardError: A file is missing, has another format, or its length is not what the header says.
    """

    def __init__(self, prefix: Path | str) -> None:
        self.prefix = Path(prefix)
        self.bin_path, self.idx_path = bin_path(prefix), idx_path(prefix)
        self.dtype, num_sequences, num_indices = read_header(self.idx_path)
        index = np.memmap(self.idx_path, mode="r", dtype=np.uint8)
        cuts = np.cumsum([HEADER.size, 4 * num_sequences, 8 * num_sequences, 8 * num_indices])
        if cuts[-1] not in (index.size, index.size - num_sequences):  # multimodal ones add a byte a sequence
            raise ShardError(
                f"{self.idx_path}: {index.size} bytes, where its header needs {cuts[-1]}: cut short or swapped"
            )
        self.sizes = index[cuts[0] : cuts[1]].view(np.int32)
        self.pointers = index[cuts[1] : cuts[2]].view(np.int64)
        self.document_indices = index[cuts[2] : cuts[3]].view(np.int64)
        self.tokens = self._map_tokens()

    def _map_tokens(self) -> np.ndarray:
        try:
            size_bytes = os.path.getsize(self.bin_path)
        except OSError as error:
            raise ShardError(f"{self.bin_path}: {error.strerror}") from error
        end = int(self.pointers[-1]) + int(self.sizes[-1]) * self.dtype.itemsize if len(self.sizes) else 0
        if size_bytes != end:
            raise ShardError(
                f"{self.bin_path}: {size_bytes} bytes, where {self.idx_path.name} needs {end}: cut or swapped"
            )
        if size_bytes == 0:
            return np.zeros(0, self.dtype)
        return np.memmap(self.bin_path, mode="r", dtype=self.dtype)

    @cached_property
    def loss_mask(self) -> np.ndarray:
        """Whether each token counts in the loss, uint8 [num_tokens], of a shard that has a ``.mask.bin``.

        Raises:
            ShardError: There is none, or it is not one byte a token.
        """
        path = Path(f"{self.prefix}.mask.bin")
        size_bytes = path.stat().st_size if path.is_file() else -1
        if size_bytes != len(self.tokens):
            found = "missing" if size_bytes < 0 else f"{size_bytes} bytes"
            raise ShardError(f"{path}: {found}, where {self.bin_path.name} has {len(self.tokens)} tokens")
        return np.memmap(path, mode="r", dtype=np.uint8) if size_bytes else np.zeros(0, np.uint8)

    @property
    def num_documents(self) -> int:
        return len(self.document_indices) - 1

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, position: int) -> np.ndarray:
        """Tokens of one sequence."""
        start = int(self.pointers[position]) // self.dtype.itemsize
        return self.tokens[start : start + int(self.sizes[position])]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[position] for position in range(len(self)))


def bin_path(prefix: Path | str) -> Path:
    """shard_00000 -> shard_00000.bin (a prefix may hold dots)."""
    return Path(f"{prefix}.bin")


def idx_path(prefix: Path | str) -> Path:
    """shard_00000 -> shard_00000.idx."""
    return Path(f"{prefix}.idx")


def read_header(path: Path) -> tuple[np.dtype, int, int]:
    """dtype, number of sequences and number of document indices of an index file."""
    try:
        with open(path, "rb") as file:
            raw = file.read(HEADER.size)
    except OSError as error:
        raise ShardError(f"{path}: {error.strerror}") from error
    if len(raw) < HEADER.size or raw[:9] != MAGIC:
        raise ShardError(f"{path}: not an index of Megatron's format")
    _, version, code, num_sequences, num_indices = HEADER.unpack(raw)
    if version != 1 or code not in DTYPE_CODES:
        raise ShardError(
            f"{path}: index version {version} with dtype code {code}; version 1 with codes 1 to 8 is known"
        )
    return np.dtype(DTYPE_CODES[code]), num_sequences, num_indices


def write_index(index: BinaryIO, slices: Callable[[], Iterator[np.ndarray]], *, dtype: np.dtype, num_documents: int) -> None:
    """Writes an ``.idx``.

    Args:
        index: Binary file.
        slices: Begins anew at each call: int32 lengths of the next documents, a slice at a time.
        dtype: Type of tokens on disk.
        num_documents: Of all slices.
    """
    index.write(HEADER.pack(MAGIC, 1, CODE_OF[dtype], num_documents, num_documents + 1))
    for lengths in slices():
        index.write(lengths.data)
    pointer = 0
    for lengths in slices():
        ends = np.cumsum(lengths, dtype=np.int64) * dtype.itemsize + pointer
        index.write(np.concatenate(([pointer], ends[:-1])).astype(np.int64).data)
        pointer = int(ends[-1])
    for start in range(0, num_documents + 1, SLICE_DOCUMENTS):
        index.write(np.arange(start, min(start + SLICE_DOCUMENTS, num_documents + 1), dtype=np.int64).data)


class IndexedWriter:
    """Appends documents to an open ``.bin`` and keeps their lengths in a scratch file until ``write_index``.

    Args:
        tokens: Binary file for the tokens.
        lengths: Binary file (read and write) for int32 lengths, scratch.
        dtype: Type of tokens on disk.
    """

    def __init__(self, tokens: BinaryIO, lengths: BinaryIO, *, dtype: np.dtype) -> None:
        self._tokens, self._lengths, self.dtype = tokens, lengths, np.dtype(dtype)
        self.num_documents = 0
        self.num_tokens = 0

    def append(self, ids: np.ndarray, sizes: np.ndarray) -> None:
        """Appends documents.

        Args:
            ids: Their tokens, flat, in the writer's dtype. [sum of sizes]
            sizes: Tokens of each. [documents]

        Raises:
            ShardError: A document is longer than the format can say.
        """
        assert ids.dtype == self.dtype, (ids.dtype, self.dtype)
        if len(sizes) and sizes.max() > MAX_DOCUMENT_TOKENS:
            raise ShardError(f"a document of {sizes.max()} tokens, where the index holds at most {MAX_DOCUMENT_TOKENS}: cut it")
        self._tokens.write(ids.data)
        self._lengths.write(np.ascontiguousarray(sizes, dtype=np.int32).data)
        self.num_documents += len(sizes)
        self.num_tokens += len(ids)

    def write_index(self, index: BinaryIO) -> None:
        """Writes the ``.idx`` in slices of SLICE_DOCUMENTS."""
        write_index(index, self._slices, dtype=self.dtype, num_documents=self.num_documents)

    def _slices(self) -> Iterator[np.ndarray]:
        self._lengths.flush()
        self._lengths.seek(0)
        while raw := self._lengths.read(4 * SLICE_DOCUMENTS):
            yield np.frombuffer(raw, dtype=np.int32)
