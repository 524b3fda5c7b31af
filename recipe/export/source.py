"""A checkpoint as exports read it: one logical tensor at a time, under Megatron's names or Llama's."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recipe.config import ModelConfig
from recipe.errors import CheckpointError
from recipe.export.fold import Factors
from recipe.export.llama import correspondences, megatron_shape, split

if TYPE_CHECKING:
    from torch import Tensor


class Reader(Protocol):
    """What export needs of a checkpoint, ours or an imported one: full tensors, whatever layout wrote them."""

    folder: Path
    state: dict[str, Any]

    def names(self) -> list[str]: ...

    def tensor(self, name: str, kind: str = "weight") -> "Tensor": ...


def check_names(reader: Reader, model: ModelConfig) -> None:
    """Every tensor of the model is there, and nothing else; raises `CheckpointError` naming them."""
    expected = {pair.megatron for pair in correspondences(model)}
    found = set(reader.names())
    if missing := sorted(expected - found):
        raise CheckpointError(f"{reader.folder}: {len(missing)} tensors are missing, the first is {missing[0]}")
    if extra := sorted(found - expected):
        raise CheckpointError(f"{reader.folder}: {len(extra)} tensors that this recipe's model lacks, the first is {extra[0]}")


def whole_tensor(reader: Reader, name: str, kind: str, model: ModelConfig) -> "Tensor":
    """One tensor without vocabulary padding; raises `CheckpointError` for another shape."""
    tensor, shape = reader.tensor(name), megatron_shape(kind, model)
    rows_fit = tensor.shape[0] >= shape[0] if kind in ("embedding", "head") else tensor.shape[0] == shape[0]
    if not rows_fit or tuple(tensor.shape[1:]) != shape[1:]:
        raise CheckpointError(f"{reader.folder}: {name} has the shape {tuple(tensor.shape)}, the recipe's model {shape}")
    return tensor[: shape[0]]


def llama_tensors(
    reader: Reader, model: ModelConfig, fold: Factors, *, dtype: "Any" = None
) -> "Iterator[tuple[str, Tensor]]":
    """Llama's names and tensors, multipliers folded in; rounded last, to `dtype` where one is given."""
    for pair in correspondences(model):
        parts = split(whole_tensor(reader, pair.megatron, pair.kind, model), pair.kind, model)
        for index, (name, part) in enumerate(zip(pair.llama, parts, strict=True)):
            folded = fold.apply(part, pair.kind, index)
            yield name, folded if dtype is None else folded.to(dtype)
