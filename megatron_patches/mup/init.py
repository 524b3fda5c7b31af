"""Initial values that don't depend on the layout.

Each parameter's full tensor is drawn from a generator seeded by (seed, global name), then cut for this rank. TP, PP,
virtual stages, tied copies and vocabulary padding all start from the same numbers.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from megatron_patches.mup.rules import Mup, Role, role_of

EMBEDDING_NAME = "embedding.word_embeddings.weight"
# Which dimension tensor parallelism cuts; None is kept whole.
_CUT = {
    Role.INPUT_EMBEDDING: 0,
    Role.TIED_EMBEDDING: 0,
    Role.OUTPUT_HEAD: 0,
    Role.HIDDEN_QKV: 0,  # rows grouped [q… k v] by query group, so contiguous pieces are whole groups
    Role.HIDDEN_FC1: 0,
    Role.HIDDEN_PROJ: 1,
    Role.HIDDEN_FC2: 1,
}


def named_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """A model chunk's parameters under global names: wrapper prefixes off, layers numbered over the whole model."""
    inner = unwrapped(model)
    for name, param in inner.named_parameters():
        parts = name.split(".")
        if parts[:2] == ["decoder", "layers"]:
            parts[2] = str(inner.decoder.layers[int(parts[2])].layer_number - 1)  # type: ignore[index, union-attr]
        yield ".".join(parts), param


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The GPTModel inside DDP, Float16Module, a DeepSpeed engine."""
    while not hasattr(model, "decoder"):
        model = model.module  # type: ignore[assignment]
    return model


def is_tied(model: torch.nn.Module) -> bool:
    """Whether the head shares the word embedding."""
    return bool(unwrapped(model).share_embeddings_and_output_weights)


@torch.no_grad()
def initialise(model: torch.nn.Module, mup: Mup, seed: int, config: Any, *, vocab_size: int | None = None) -> None:
    """Fills a GPTModel chunk in place.

    Args:
        model: One pipeline stage (or virtual stage), before ZeRO-3 partitions it.
        config: Upstream's TransformerConfig (for the gated fc1 and the TP size).
        vocab_size: Real vocabulary; rows above it are padding and stay zero. None: no padding.
    """
    from megatron.core import parallel_state

    size = config.tensor_model_parallel_size
    rank = parallel_state.get_tensor_model_parallel_rank() if size > 1 else 0
    table, tied = mup.table(), is_tied(model)
    for name, param in named_parameters(model):
        role = role_of(name, tied=tied)
        if role not in _CUT:
            param.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        # upstream marks a parameter as cut only when it initialises it itself; gradient norms and checkpoints need the mark
        vars(param).update(tensor_model_parallel=True, partition_dim=_CUT[role], partition_stride=1)
        shape = list(param.shape)
        shape[_CUT[role]] *= size
        whole = _draw(
            EMBEDDING_NAME if role is Role.TIED_EMBEDDING else name, seed, shape, vocab_size if _has_vocab(role) else None
        )
        gated = role is Role.HIDDEN_FC1 and config.gated_linear_unit
        param.copy_(_cut(whole, dim=_CUT[role], rank=rank, size=size, gated=gated) * table[role].init_std)


def _has_vocab(role: Role) -> bool:
    return role in (Role.INPUT_EMBEDDING, Role.TIED_EMBEDDING, Role.OUTPUT_HEAD)


def _draw(name: str, seed: int, shape: list[int], rows: int | None) -> Tensor:
    """Standard normal numbers that depend on (seed, name) and the unpadded shape only."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    if rows is None or rows >= shape[0]:
        return torch.randn(shape, generator=generator)
    whole = torch.zeros(shape)
    whole[:rows] = torch.randn([rows, *shape[1:]], generator=generator)
    return whole


def _cut(whole: Tensor, *, dim: int, rank: int, size: int, gated: bool) -> Tensor:
    """This rank's piece. A gated fc1 is [gate; up], and each rank holds its part of both."""
    if gated:
        return torch.cat([half.chunk(size, 0)[rank] for half in whole.chunk(2, 0)])
    return whole.chunk(size, dim)[rank]
