"""Puts a checkpoint into a live engine of any layout, and finds the newest whole one of a run."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state as ps

from megatron_patches.zero.partition import MOMENTS, pieces, set_adam_step, set_weight, shard_shape
from recipe.checkpoint.format import check_files
from recipe.checkpoint.reader import CheckpointReader
from recipe.checkpoint.writer import logical_parameters
from recipe.engine import Engine
from recipe.errors import CheckpointError
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir


def newest_whole(run: RunDir) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose digests agree, and what was wrong with newer ones, which are set aside.

    All ranks check (a share of the files each) and agree. Without a process group one process checks all.
    """
    complaints: list[str] = []
    for folder in reversed(run.checkpoint_dirs()):
        problems = _check_together(folder)
        if not problems:
            return folder, complaints
        complaints += sorted(set(problems))  # of a manifest every rank says the same
        if _rank() == 0:
            aside = folder.with_name(f".damaged-{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        _barrier()
    return None, complaints


def load_engine(engine: Engine, folder: Path) -> dict[str, Any]:
    """Weights, master weights, moments and step count into the engine; returns the checkpoint's state.

    Raises:
        CheckpointError: It lacks a parameter, or holds another shape.
    """
    reader = CheckpointReader(folder)
    target = {
        "tp": engine.resolved.layout.tp, "tp_rank": ps.get_tensor_model_parallel_rank(),
        "padded_vocab_size": engine.resolved.padded_vocab_size,
    }
    for name, parameter, info in logical_parameters(engine, copies=True):
        if (there := reader.parameters.get(name)) is None or there.shape != info.shape:
            found = "no such parameter" if there is None else f"shape {list(there.shape)}"
            raise CheckpointError(f"{folder}: {name}: {found}; the recipe's model has {list(info.shape)}")
        master = reader.load_into(name, "master", **target)
        set_weight(parameter, master.view(shard_shape(parameter)))
        for piece in pieces(engine.engine, parameter):
            piece.master.copy_(master[piece.start : piece.start + piece.numel])
            for kind in MOMENTS:
                moments = _moments(reader, name, kind, target, piece.start, piece.numel)
                getattr(piece, kind).copy_(moments)
    set_adam_step(engine.engine, reader.state["adam_step"])
    return reader.state


def _moments(reader: CheckpointReader, name: str, kind: str, target: dict[str, int], start: int, numel: int) -> torch.Tensor:
    """Only the range that is wanted, where the layouts cut alike."""
    info = reader.parameters[name]
    alike = target["tp"] == reader.tp and (not info.vocabulary or target["padded_vocab_size"] == reader.padded_vocab_size)
    if alike:
        rank = target["tp_rank"] if info.cut_dim is not None else 0
        return reader.flat(name, kind, tp_rank=rank, start=start, numel=numel)
    return reader.load_into(name, kind, **target)[start : start + numel]


def check_identity(state: dict[str, Any], resolved: ResolvedRun, *, folder: Path, branch: bool = False) -> None:
    """Refuses a checkpoint of another recipe, with a line for each difference; raises `CheckpointError`.

    A branch has stages, and may have sources, of its own; everything else must agree.
    """
    free = {"stages", "data"} if branch else set()
    ours, theirs = resolved.identity(), state["identity"]
    different = [name for name in {**ours, **theirs} if name not in free and theirs.get(name) != ours.get(name)]
    if different:
        lines = [f"{folder}: the checkpoint is of another recipe; differences (checkpoint → recipe):"]
        lines += [line for name in different for line in _differences(name, theirs.get(name), ours.get(name))]
        lines.append("  resume with the recipe that wrote it, or start another run")
        raise CheckpointError("\n".join(lines))


def _differences(name: str, theirs: str | None, ours: str | None) -> list[str]:
    """A line for each key that differs, rather than both sections whole."""
    before, after = _leaves(name, theirs), _leaves(name, ours)
    keys = [key for key in {**before, **after} if before.get(key, "none") != after.get(key, "none")]
    return [f"  {key}: {before.get(key, 'none')} → {after.get(key, 'none')}" for key in keys]


def _leaves(name: str, text: str | None) -> dict[str, str]:
    """`stages[1].tokens` → its value, of a section of the identity."""

    def walk(key: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for inner, one in value.items():
                yield from walk(f"{key}.{inner}", one)
        elif isinstance(value, list):
            for number, one in enumerate(value):
                yield from walk(f"{key}[{number}]", one)
        else:
            yield key, "none" if value is None else str(value)

    try:
        value = json.loads(text or "null")
    except json.JSONDecodeError:  # a digest
        value = text
    return dict(walk(name, value))


def _check_together(folder: Path) -> list[str]:
    if not dist.is_initialized():
        return check_files(folder)
    mine = check_files(folder, part=_rank(), num_parts=dist.get_world_size())
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return [problem for problems in everyone for problem in problems]


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()
