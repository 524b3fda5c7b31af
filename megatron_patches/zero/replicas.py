"""Do data-parallel replicas hold the same weights? A digest of each parameter says so, the master weights say who is wrong.

Compare before an update: afterwards ZeRO has spread the masters again, and what a flipped bit did to the gradients stays.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state as ps

from megatron_patches.mup.init import named_parameters
from megatron_patches.zero.partition import pieces

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32}


def digests(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """int64[len(parameters)]: the sum of each one's bits, read as integers; any single flipped bit changes it."""
    bits = [p.detach().contiguous().view(_INTEGERS[p.element_size()]) for p in parameters]
    return torch.stack([values.sum(dtype=torch.int64) for values in bits])


def disagreements(engine: Any, chunks: Sequence[torch.nn.Module]) -> list[str]:
    """`rank 3: decoder.layers.…` for every weight that isn't its replicas'; the same on all ranks. Not for ZeRO-3, which
    keeps no replicas."""
    group = ps.get_data_parallel_group(with_context_parallel=True)
    named = [item for chunk in chunks for item in named_parameters(chunk)]
    mine = digests([parameter for _, parameter in named])
    everyone = mine.new_empty(dist.get_world_size(group), len(mine))
    dist.all_gather_into_tensor(everyone, mine[None], group=group)
    differ = (everyone != everyone[0]).any(0)
    found = differ.any().long()
    dist.all_reduce(found)  # ranks of other tensor- or pipeline-parallel groups leave together
    if not found:
        return []
    lines = [
        line
        for (name, parameter), apart in zip(named, differ.tolist(), strict=True)
        if apart and (line := _verdict(engine, name, parameter, group))
    ]
    gathered: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, lines)
    return [line for lines in gathered for line in lines] or ["replicas differ, each in agreement with its own master weights"]


def _verdict(engine: Any, name: str, parameter: torch.nn.Parameter, group: dist.ProcessGroup) -> str:
    """What this rank must say about a parameter on which replicas differ: "" where it holds what the masters say."""
    expected = torch.zeros_like(parameter).reshape(-1)
    for piece in pieces(engine, parameter):
        expected[piece.start : piece.start + piece.numel] = piece.master.to(parameter.dtype)
    if engine.optimizer.dp_process_group.size() > 1:  # each element's master is on one rank
        dist.all_reduce(expected, group=group)
    wrong = int((parameter.detach().reshape(-1) != expected).sum())
    return f"rank {dist.get_rank()}: {name} ({wrong} of {parameter.numel()} values)" if wrong else ""
