"""Writes named tensors as Hugging Face's sharded safetensors, one shard in memory at a time."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.atomic import write_json

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def write_shards(tensors: "Iterable[tuple[str, Tensor]]", folder: Path, *, max_shard_bytes: int) -> dict[str, str]:
    """Streams tensors into `folder`; a shard is closed when the next tensor would pass `max_shard_bytes`.

    Returns:
        Tensor name → file name. A model of one shard is a single file without an index, as transformers writes it.
    """
    parts: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    total_bytes = pending_bytes = 0
    for name, tensor in tensors:
        if pending and pending_bytes + tensor.nbytes > max_shard_bytes:
            parts.append(_save(pending, folder / f"part-{len(parts)}.tmp"))
            pending, pending_bytes = {}, 0
        pending[name] = tensor
        pending_bytes += tensor.nbytes
        total_bytes += tensor.nbytes
    parts.append(_save(pending, folder / f"part-{len(parts)}.tmp"))
    return _name_parts(parts, folder, total_bytes=total_bytes)


def _save(tensors: "dict[str, Tensor]", path: Path) -> list[str]:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it readable for the owner alone
    return list(tensors)


def _name_parts(parts: list[list[str]], folder: Path, *, total_bytes: int) -> dict[str, str]:
    """Files get their final names once their number is known."""
    files = {}
    for number, names in enumerate(parts):
        file = SINGLE if len(parts) == 1 else f"model-{number + 1:05d}-of-{len(parts):05d}.safetensors"
        (folder / f"part-{number}.tmp").rename(folder / file)
        files.update(dict.fromkeys(names, file))
    if len(parts) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total_bytes}, "weight_map": files})
    return files


def remove_shards(folder: Path) -> None:
    """Makes room for other shards."""
    for file in folder.glob("model*.safetensors*"):
        file.unlink()
