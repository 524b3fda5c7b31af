"""What a checkpoint is on disk.

    <stage>-<tokens>/  index.json         parameters (logical shapes, how TP cuts them) and where each piece lies
                       rank_00000.safetensors …   flat fp32 pieces: master weights and Adam moments
                       state.json         step, tokens, ledger, identity, layout
                       manifest.json      every file with its size and xxh128; written last

A piece is a range of a parameter's flattened tensor-parallel shard, stored once however many ranks hold copies. The logical
tensor is Megatron-Core's at TP 1, without rows that pad the vocabulary. The training weights aren't stored: they are the
master weights rounded.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors.torch import save_file

from data_prep.atomic import sync_folder
from recipe.errors import CheckpointError, RunError, UnknownFormatError
from recipe.resolve import ResolvedRun
from recipe.rundir import MANIFEST, read_json, write_json

FORMAT = 1
KINDS = ("master", "exp_avg", "exp_avg_sq")
INDEX = "index.json"


@dataclass(frozen=True)
class ParameterInfo:
    """A logical parameter."""

    shape: tuple[int, ...]
    """Logical, at TP 1, vocabulary unpadded."""
    cut_dim: int | None
    """Dimension that tensor parallelism cuts; None: every rank holds it whole."""
    gated: bool = False
    """[gate; up] along dimension 0: each rank holds its part of both."""
    vocabulary: bool = False
    """Dimension 0 is padded to what the layout needs."""

    def shard_shape(self, *, tp: int, padded_vocab_size: int) -> tuple[int, ...]:
        shape = list(self.shape)
        if self.vocabulary:
            shape[0] = padded_vocab_size
        if self.cut_dim is not None:
            shape[self.cut_dim] //= tp
        return tuple(shape)

    def shard(self, whole: torch.Tensor, *, rank: int, tp: int, padded_vocab_size: int) -> torch.Tensor:
        """A rank's shard of the logical tensor."""
        if self.vocabulary and whole.shape[0] < padded_vocab_size:
            pad = whole.new_zeros(padded_vocab_size - whole.shape[0], *whole.shape[1:])
            whole = torch.cat([whole, pad])
        if self.cut_dim is None or tp == 1:
            return whole
        if self.gated:
            return torch.cat([half.chunk(tp, self.cut_dim)[rank] for half in whole.chunk(2, self.cut_dim)], self.cut_dim)
        return whole.chunk(tp, self.cut_dim)[rank]

    def join(self, shards: list[torch.Tensor]) -> torch.Tensor:
        """The logical tensor from all ranks' shards."""
        if self.cut_dim is None or len(shards) == 1:
            whole = shards[0]
        elif self.gated:
            halves = zip(*(shard.chunk(2, self.cut_dim) for shard in shards))
            whole = torch.cat([torch.cat(half, self.cut_dim) for half in halves], self.cut_dim)
        else:
            whole = torch.cat(shards, self.cut_dim)
        return whole[: self.shape[0]] if self.vocabulary else whole


@dataclass(frozen=True)
class PieceInfo:
    """Where elements [start, start + numel) of a shard lie."""

    file: str
    tp_rank: int
    start: int
    numel: int

    def key(self, kind: str, name: str) -> str:
        return f"{kind}|{name}|{self.tp_rank}|{self.start}"


def run_state(
    resolved: ResolvedRun, *, stage: str, step: int, ledger: dict[str, Any], attempt: int, num_skipped: int = 0
) -> dict[str, Any]:
    """What `state.json` says of a run after so many steps, the same on all ranks; `ledger` is `Ledger.state()`."""
    return {
        "step": step, "tokens": resolved.tokens_before(step), "stage": stage, "ledger": ledger,
        "adam_step": step - num_skipped, "num_skipped": num_skipped, "identity": resolved.identity(),
        "layout": resolved.layout.model_dump(), "attempt": attempt,
    }  # fmt: skip


def rank_file(number: int) -> str:
    """Of a rank's tensors (an import numbers its files alike)."""
    return f"rank_{number:05d}.safetensors"


def save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Writes them, to the disk itself."""
    save_file(tensors or {"empty": torch.zeros(1)}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def entry(path: Path) -> dict[str, Any]:
    """A file as the manifest has it."""
    size, found = digest(path)
    return {"bytes": size, "xxh128": found}


def publish(hidden: Path, folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Once every file is there: the manifest, then the name."""
    write_json(hidden / MANIFEST, {"format": FORMAT, "files": files})
    before = folder.with_name(f".removing-{folder.name}")
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():  # a run that went back comes by again
        folder.rename(before)
    os.replace(hidden, folder)
    sync_folder(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def digest(path: Path) -> tuple[int, str]:
    """Size in bytes and xxh128 of a file."""
    hasher = xxhash.xxh128()
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            hasher.update(block)
            size += len(block)
    return size, hasher.hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint; raises `CheckpointError` where there is none, `UnknownFormatError` for another's."""
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder}: no whole checkpoint ({MANIFEST} is missing)")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{path}: no manifest of a checkpoint")
    if manifest.get("format") != FORMAT:
        raise UnknownFormatError(f"{path}: format {manifest.get('format')!r}; this version reads {FORMAT}")
    return manifest


def check_files(folder: Path, *, part: int = 0, num_parts: int = 1) -> list[str]:
    """What is wrong with a checkpoint's files (of several processes each looks at a part), one line each; [] when whole."""
    try:
        files = read_manifest(folder)["files"]
    except UnknownFormatError:
        raise
    except RunError as error:
        return [str(error)]
    problems = []
    for name in sorted(files)[part::num_parts]:
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: missing")
            continue
        size, found = digest(path)
        if size != files[name]["bytes"]:
            problems.append(f"{path}: {size} bytes, {files[name]['bytes']} were written")
        elif found != files[name]["xxh128"]:
            problems.append(f"{path}: contents changed since it was written")
    return problems
