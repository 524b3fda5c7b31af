"""Reads a checkpoint of any layout, a tensor at a time: `CheckpointReader(folder).tensor(name)`. Needs no process group."""

from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from recipe.checkpoint.format import INDEX, KINDS, ParameterInfo, PieceInfo, check_files, read_manifest
from recipe.errors import CheckpointError
from recipe.rundir import STATE, read_json


class CheckpointReader:
    """Opens index and state; tensors are read when asked for, so memory is that of one parameter."""

    def __init__(self, folder: str | Path, *, verify: bool = False) -> None:
        self.folder = Path(folder)
        read_manifest(self.folder)
        if verify and (problems := check_files(self.folder)):
            raise CheckpointError("\n".join(problems))
        index = read_json(self.folder / INDEX)
        self.state: dict[str, Any] = read_json(self.folder / STATE)
        self.tp: int = index["tp"]
        self.padded_vocab_size: int = index["padded_vocab_size"]
        self.parameters = {
            name: ParameterInfo(**(info | {"shape": tuple(info["shape"])})) for name, info in index["parameters"].items()
        }
        self._pieces = {name: [PieceInfo(*piece) for piece in pieces] for name, pieces in index["pieces"].items()}
        self._open = lru_cache(maxsize=64)(self._open_file)

    def names(self) -> list[str]:
        """Logical parameters: Megatron-Core's names with global layer numbers; a tied head is its embedding."""
        return list(self.parameters)

    def tensor(self, name: str, kind: str = "weight") -> torch.Tensor:
        """The logical fp32 tensor: kind weight (or master), exp_avg, exp_avg_sq; raises `CheckpointError`."""
        info = self._info(name)
        size = self.tp if info.cut_dim is not None else 1
        return info.join([self.shard(name, kind, tp_rank=rank) for rank in range(size)])

    def shard(self, name: str, kind: str, *, tp_rank: int) -> torch.Tensor:
        """A shard as the writing layout cut it."""
        shape = self._info(name).shard_shape(tp=self.tp, padded_vocab_size=self.padded_vocab_size)
        return self.flat(name, kind, tp_rank=tp_rank, start=0, numel=prod(shape)).view(shape)

    def flat(self, name: str, kind: str, *, tp_rank: int, start: int, numel: int) -> torch.Tensor:
        """Elements [start, start + numel) of a shard, from however many pieces."""
        kind = "master" if kind == "weight" else kind
        assert kind in KINDS, kind
        out = torch.empty(numel)
        filled = 0
        for piece in self._pieces[name]:
            first, last = max(start, piece.start), min(start + numel, piece.start + piece.numel)
            if piece.tp_rank != tp_rank or first >= last:
                continue
            part = self._slice(piece, kind, name, first - piece.start, last - piece.start)
            out[first - start : last - start] = part
            filled += last - first
        if filled != numel:
            raise CheckpointError(f"{self.folder}: {name} ({kind}) is incomplete: {filled} of {numel} values are there")
        return out

    def load_into(self, name: str, kind: str, *, tp: int, tp_rank: int, padded_vocab_size: int) -> torch.Tensor:
        """A shard as another layout cuts it, flattened."""
        info = self._info(name)
        if tp == self.tp and (not info.vocabulary or padded_vocab_size == self.padded_vocab_size):
            return self.shard(name, kind, tp_rank=tp_rank if info.cut_dim is not None else 0).reshape(-1)
        whole = self.tensor(name, kind)
        return info.shard(whole, rank=tp_rank, tp=tp, padded_vocab_size=padded_vocab_size).reshape(-1)

    def _info(self, name: str) -> ParameterInfo:
        if name not in self.parameters:
            raise CheckpointError(f"{self.folder}: has no parameter {name}; its model is another one")
        return self.parameters[name]

    def _slice(self, piece: PieceInfo, kind: str, name: str, start: int, end: int) -> torch.Tensor:
        try:
            return self._open(piece.file).get_slice(piece.key(kind, name))[start:end]
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.folder / piece.file}: {name} ({kind}) can't be read: {error}") from error

    def _open_file(self, name: str) -> Any:
        return safe_open(self.folder / name, framework="pt")
