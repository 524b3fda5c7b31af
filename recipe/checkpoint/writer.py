"""Writes a checkpoint: each rank its pieces, without blocking training and without a collective.

Ranks snapshot their pieces (a copy in host memory), then a thread writes them into a hidden folder, each file followed by
its done file. Rank 0's thread waits for all done files, writes the manifest and renames the folder: a kill at any moment
leaves either the whole checkpoint or none.
"""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state as ps

from data_prep.atomic import write_json
from megatron_patches.mup.init import EMBEDDING_NAME, named_parameters
from megatron_patches.zero.partition import MOMENTS, pieces, shard_shape
from recipe.checkpoint.format import INDEX, KINDS, ParameterInfo, PieceInfo, entry, publish, rank_file, save_tensors
from recipe.engine import Engine
from recipe.errors import CheckpointError
from recipe.rundir import MANIFEST, STATE, read_json
from recipe.units import format_bytes

_POLL_S = 0.02


def logical_parameters(engine: Engine, *, copies: bool = False) -> list[tuple[str, torch.nn.Parameter, ParameterInfo]]:
    """This rank's parameters that a checkpoint holds; with `copies` the last stage's copy of a tied embedding too."""
    resolved = engine.resolved
    tp = resolved.layout.tp
    found = []
    for chunk in engine.chunks:
        for name, parameter in named_parameters(chunk):
            if name == "output_layer.weight" and resolved.config.model.tied:
                if not copies:
                    continue
                name = EMBEDDING_NAME
            cut = getattr(parameter, "partition_dim", None) if getattr(parameter, "tensor_model_parallel", False) else None
            shape = list(shard_shape(parameter))
            if cut is not None:
                shape[cut] *= tp
            vocabulary = name in (EMBEDDING_NAME, "output_layer.weight")
            if vocabulary:
                shape[0] = resolved.config.model.vocab_size
            info = ParameterInfo(tuple(shape), cut, gated=name.endswith("mlp.linear_fc1.weight"), vocabulary=vocabulary)
            found.append((name, parameter, info))
    return found


class CheckpointWriter:
    """One rank's writer; at most one checkpoint is in flight."""

    def __init__(self, engine: Engine, *, asynchronous: bool) -> None:
        self.engine, self.asynchronous = engine, asynchronous
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._index: dict[str, Any] | None = None
        self._staging: dict[str, torch.Tensor] = {}

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Starts writing `folder`; `state` is the same on all ranks. Returns once the snapshot is taken."""
        self.wait()
        tensors = self._snapshot()
        if self._index is None:  # where pieces lie follows from the layout alone: gathered once
            self._index = self._gather_index(tensors)
        if dist.get_rank() == 0:
            self._check_space(folder.parent)
        self._thread = threading.Thread(target=self._write, args=(folder, tensors, state), name="checkpoint")
        self._thread.start()
        if not self.asynchronous:
            self.wait()

    def _check_space(self, parent: Path) -> None:
        """Raises `CheckpointError` where the disk can't hold one more: nothing was removed for it yet."""
        assert self._index is not None
        parent.mkdir(parents=True, exist_ok=True)
        numel = sum(piece[3] for pieces in self._index["pieces"].values() for piece in pieces)
        needed, free = 4 * len(KINDS) * numel, shutil.disk_usage(parent).free
        if free < needed:
            raise CheckpointError(
                f"{parent}: a checkpoint takes {format_bytes(needed)}, the disk has {format_bytes(free)} free; "
                "the checkpoints there stay as they are; make room and resume"
            )

    def wait(self) -> None:
        """Until the checkpoint in flight is whole; raises what its writing raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise CheckpointError(f"checkpoint could not be written: {error}") from error

    def _snapshot(self) -> dict[str, torch.Tensor]:
        tp_rank = ps.get_tensor_model_parallel_rank()
        replica = 0 if self.engine.topology.partitioned else ps.get_data_parallel_rank(with_context_parallel=True)
        taken: dict[str, torch.Tensor] = {}
        for name, parameter, info in logical_parameters(self.engine):
            if replica != 0 or (info.cut_dim is None and tp_rank != 0):
                continue  # another rank holds, and writes, the same values
            for piece in pieces(self.engine.engine, parameter):
                where = PieceInfo("", tp_rank if info.cut_dim is not None else 0, piece.start, piece.numel)
                for kind, values in zip(("master", *MOMENTS), (piece.master, piece.exp_avg, piece.exp_avg_sq), strict=True):
                    taken[where.key(kind, name)] = self._stage(where.key(kind, name), values)
        return taken

    def _stage(self, key: str, values: torch.Tensor) -> torch.Tensor:
        """A copy in host memory, into the same buffer every time: fresh pages cost more than the copy."""
        if key not in self._staging:
            self._staging[key] = torch.empty_like(values, device="cpu")
        return self._staging[key].copy_(values)

    def _gather_index(self, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        mine = {name: vars(info) for name, _, info in logical_parameters(self.engine)}
        held: dict[str, list[list[Any]]] = {}
        for key, values in tensors.items():
            kind, name, tp_rank, start = key.split("|")
            if kind == "master":
                held.setdefault(name, []).append([rank_file(dist.get_rank()), int(tp_rank), int(start), values.numel()])
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, (mine, held))
        parameters: dict[str, Any] = {}
        all_pieces: dict[str, list[list[Any]]] = {}
        for infos, held_there in everyone:
            parameters |= infos
            for name, where in held_there.items():
                all_pieces.setdefault(name, []).extend(where)
        resolved = self.engine.resolved
        return {
            "tp": resolved.layout.tp, "padded_vocab_size": resolved.padded_vocab_size,
            "parameters": parameters, "pieces": all_pieces,
        }

    def _write(self, folder: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        try:
            self._write_whole(folder, tensors, state)
        except BaseException as error:  # handed to the training thread by wait()
            self._error = error

    def _write_whole(self, folder: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        rank, world = dist.get_rank(), dist.get_world_size()
        attempt = state["attempt"]  # what an earlier attempt left half-written has another name
        hidden = folder.with_name(f".{folder.name}.attempt{attempt}.tmp")
        hidden.mkdir(parents=True, exist_ok=True)
        name = rank_file(rank)
        save_tensors(tensors, hidden / name)
        files = {name: entry(hidden / name)}
        if rank == 0:
            write_json(hidden / INDEX, self._index)
            write_json(hidden / STATE, state)
            files |= {small: entry(hidden / small) for small in (INDEX, STATE)}
        write_json(hidden / f"rank_{rank:05d}.done.json", files)
        if rank == 0:
            _commit(hidden, folder, world=world)
        while not (folder / MANIFEST).exists():
            if not threading.main_thread().is_alive():
                return  # the process is going down; nobody waits for this checkpoint
            time.sleep(_POLL_S)


def _commit(hidden: Path, folder: Path, *, world: int) -> None:
    """Rank 0: once every rank's file is there, the checkpoint takes its name."""
    done = [hidden / f"rank_{rank:05d}.done.json" for rank in range(world)]
    while not all(path.exists() for path in done):
        if not threading.main_thread().is_alive():
            return
        time.sleep(_POLL_S)
    files: dict[str, Any] = {}
    for path in done:
        files |= read_json(path)
        path.unlink()
    publish(hidden, folder, files)

