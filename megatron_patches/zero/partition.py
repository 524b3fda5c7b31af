"""What one rank holds of the optimizer: fp32 master weights and Adam moments, as flat pieces of named parameters.

DeepSpeed keeps them in flat buffers, partitioned in other ways by ZeRO-1/2 and ZeRO-3; checkpoints and audits want
(parameter, start, numel). The pieces returned are views: copying into them changes the optimizer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Piece:
    """Elements [start, start + numel) of a parameter's flattened local shard; all tensors are 1-D views, fp32."""

    start: int
    master: torch.Tensor
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor

    @property
    def numel(self) -> int:
        return self.master.numel()


def flat_masters(engine: Any) -> list[torch.Tensor]:
    """The flat fp32 buffers that the inner optimizer steps."""
    zero = engine.optimizer
    return list(zero.fp32_partitioned_groups_flat if is_zero3(engine) else zero.single_partition_of_fp32_groups)


def is_zero3(engine: Any) -> bool:
    return engine.zero_optimization_stage() == 3


def allocate_state(engine: Any) -> None:
    """Zero moments where the inner optimizer, which allocates at its first step, has none yet."""
    inner = engine.optimizer.optimizer
    for flat in flat_masters(engine):
        state = inner.state[flat]
        for name in MOMENTS:
            state.setdefault(name, torch.zeros_like(flat.data))
        state.setdefault("step", torch.tensor(0.0) if isinstance(inner, torch.optim.AdamW) else 0)


def set_adam_step(engine: Any, step: int) -> None:
    """The count that Adam's bias correction uses: torch keeps a tensor, the fused ones a number, some of them in the group."""
    inner = engine.optimizer.optimizer
    for flat in flat_masters(engine):
        inner.state[flat]["step"] = torch.tensor(float(step)) if isinstance(inner, torch.optim.AdamW) else step
    for group in inner.param_groups:
        if "step" in group:
            group["step"] = step


def adam_step(engine: Any) -> int:
    """Updates applied so far, as Adam counts them."""
    state = engine.optimizer.optimizer.state[flat_masters(engine)[0]]
    return int(state["step"]) if "step" in state else 0


def pieces(engine: Any, parameter: torch.nn.Parameter) -> Iterator[Piece]:
    """This rank's piece of a parameter's optimizer state: one, or none."""
    zero, inner = engine.optimizer, engine.optimizer.optimizer
    if is_zero3(engine):
        yield from _zero3_piece(engine, parameter)
        return
    mapping = parameter._hp_mapping  # type: ignore[attr-defined]
    if mapping is None:
        return
    flat = zero.single_partition_of_fp32_groups[mapping.param_group_index]
    address = mapping.hp_fragment_address
    state = inner.state[flat]
    views = [tensor.narrow(0, address.start, address.numel) for tensor in (flat.data, state["exp_avg"], state["exp_avg_sq"])]
    yield Piece(mapping.lp_fragment_address.start, *views)


def _zero3_piece(engine: Any, parameter: torch.nn.Parameter) -> Iterator[Piece]:
    zero, inner = engine.optimizer, engine.optimizer.optimizer
    group, offset, size = zero.grad_position[zero.get_param_id(parameter)]
    flat = zero.fp32_partitioned_groups_flat[group]
    start = dist.get_rank(zero.dp_process_group) * size
    # the last partition is padded
    numel = min(size, parameter.ds_numel - start)  # type: ignore[attr-defined]
    if numel <= 0:
        return
    state = inner.state[flat]
    yield Piece(start, *(t.narrow(0, offset, numel) for t in (flat.data, state["exp_avg"], state["exp_avg_sq"])))


def shard_shape(parameter: torch.nn.Parameter) -> torch.Size:
    """A parameter's local shape, also where ZeRO-3 has flattened it away."""
    return parameter.ds_shape if hasattr(parameter, "ds_shape") else parameter.shape


def set_weight(parameter: torch.nn.Parameter, value: torch.Tensor) -> None:
    """Puts a local shard's values into the training weights (rounded to their dtype)."""
    if not hasattr(parameter, "ds_tensor"):
        parameter.data.copy_(value.view_as(parameter))
        return
    size = parameter.ds_tensor.numel()
    start = dist.get_rank(parameter.ds_process_group) * size  # type: ignore[attr-defined]
    mine = value.reshape(-1)[start : start + size]
    parameter.ds_tensor.data[: mine.numel()].copy_(mine)
