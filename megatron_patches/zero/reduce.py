"""What is left to reduce after Megatron-Core's schedule and before DeepSpeed partitions the gradients.

Upstream does this in `finalize_model_grads`, whose buffers belong to Megatron's own optimizer; here the gradients still are
the parameters' own `.grad`. Call it inside `engine.coalesce_grad_reduction()`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state as ps
from megatron.core.models.common.language_module.language_module import LanguageModule

from megatron_patches.zero.partition import is_zero3


def reduce_model_parallel(chunks: Sequence[LanguageModule]) -> None:
    """Sums what sequence-parallel ranks hold in parts (norm gains), and the two copies of a tied embedding."""
    parameters = [parameter for chunk in chunks for parameter in chunk.parameters()]
    if ps.get_tensor_model_parallel_world_size() > 1:
        partial = [p.grad for p in parameters if getattr(p, "sequence_parallel", False) and p.grad is not None]
        _all_reduce_flat(partial, ps.get_tensor_model_parallel_group())
    if ps.get_pipeline_model_parallel_world_size() > 1:
        for chunk in chunks:
            if chunk.share_embeddings_and_output_weights and (chunk.pre_process or chunk.post_process):
                dist.all_reduce(chunk.shared_embedding_or_output_weight().grad, group=ps.get_embedding_group())


def average_data_parallel(chunks: Sequence[torch.nn.Module]) -> None:
    """The average over data-parallel replicas, where ZeRO is off and DeepSpeed doesn't take it."""
    group = ps.get_data_parallel_group(with_context_parallel=True)
    size = dist.get_world_size(group)
    if size == 1:
        return
    gradients = [p.grad for chunk in chunks for p in chunk.parameters() if p.grad is not None]
    _all_reduce_flat(gradients, group, divide_by=size)


def leave_alone(engine: Any) -> None:
    """A group of one has nothing to reduce; DeepSpeed would flatten all gradients, divide them by one and copy them back."""
    zero = engine.optimizer
    if not is_zero3(engine) and dist.get_world_size(zero.dp_process_group) == 1:
        zero.buffered_reduce_fallback = lambda *_args, **_options: None


def _all_reduce_flat(gradients: Iterable[torch.Tensor], group: dist.ProcessGroup, *, divide_by: int = 1) -> None:
    by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
    for gradient in gradients:
        by_dtype.setdefault(gradient.dtype, []).append(gradient)
    for tensors in by_dtype.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat, group=group)
        if divide_by > 1:
            flat.div_(divide_by)
        offset = 0
        for tensor in tensors:
            tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
            offset += tensor.numel()
