"""Work shared out among data-parallel replicas: each does its part, all get everything. Alone, nothing is shared."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def shared(items: Sequence[Item], work: Callable[[Item], Result]) -> list[Result]:
    """`work` of every item, in order, the same on all ranks; replica r does items r, r + dp, … (the ranks of one in step)."""
    rank, size, group = _replica()
    if size == 1:
        return [work(item) for item in items]
    import torch.distributed as dist

    mine = {index: work(items[index]) for index in range(rank, len(items), size)}
    parts: list[Any] = [None] * size
    dist.all_gather_object(parts, mine, group=group)
    whole = {index: result for part in parts for index, result in part.items()}
    return [whole[index] for index in range(len(items))]


def of_first_rank(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _replica() -> tuple[int, int, Any]:
    """(which data-parallel replica this is, how many there are, their group)."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        return 0, 1, None
    from megatron.core import parallel_state as ps

    return ps.get_data_parallel_rank(), ps.get_data_parallel_world_size(), ps.get_data_parallel_group()
