"""The `mpu` that DeepSpeed asks about process groups, answered from Megatron-Core's parallel state.

DeepSpeed calls *model parallel* whatever splits one replica: here that must be the TP × PP group, or each pipeline stage
clips by a gradient norm of its own, and nothing says so. Its *data parallel* group is the one that optimizer states are
partitioned over: DP × CP, or one rank alone where ZeRO is off (stage 0 then is ZeRO-1's code with nothing partitioned, and
`reduce.py` averages the gradients).
"""

from collections.abc import Iterable

import torch.distributed as dist
from megatron.core import parallel_state as ps
from megatron.core.models.common.language_module.language_module import LanguageModule


class Topology:
    """Process groups under the names that DeepSpeed 0.19 uses."""

    def __init__(self, *, partitioned: bool) -> None:
        self.partitioned = partitioned
        self._alone = None if partitioned else _group_of_one()

    def get_data_parallel_group(self) -> dist.ProcessGroup:
        if self._alone is not None:
            return self._alone
        return ps.get_data_parallel_group(with_context_parallel=True)

    def get_data_parallel_world_size(self) -> int:
        return dist.get_world_size(self.get_data_parallel_group())

    def get_data_parallel_rank(self) -> int:
        return dist.get_rank(self.get_data_parallel_group())

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        return ps.get_model_parallel_group()

    def get_model_parallel_world_size(self) -> int:
        return dist.get_world_size(ps.get_model_parallel_group())

    def get_model_parallel_rank(self) -> int:
        return dist.get_rank(ps.get_model_parallel_group())

    def get_tensor_model_parallel_group(self) -> dist.ProcessGroup:
        return ps.get_tensor_model_parallel_group()

    def get_tensor_model_parallel_world_size(self) -> int:
        return ps.get_tensor_model_parallel_world_size()

    def get_tensor_model_parallel_rank(self) -> int:
        return ps.get_tensor_model_parallel_rank()

    def get_pipeline_model_parallel_group(self) -> dist.ProcessGroup:
        return ps.get_pipeline_model_parallel_group()

    def get_pipeline_model_parallel_world_size(self) -> int:
        return ps.get_pipeline_model_parallel_world_size()

    def get_pipeline_model_parallel_rank(self) -> int:
        return ps.get_pipeline_model_parallel_rank()

    def model_parallel_is_initialized(self) -> bool:
        return ps.model_parallel_is_initialized()

    def initialize_model_parallel(self, *_: object, **__: object) -> None:
        """DeepSpeed may ask; Megatron-Core has done it."""


def _group_of_one() -> dist.ProcessGroup:
    mine = None
    for rank in range(dist.get_world_size()):  # every process takes part in making every group
        group = dist.new_group([rank])
        if rank == dist.get_rank():
            mine = group
    assert mine is not None
    return mine


def is_tied_copy(name: str) -> bool:
    """Whether a last stage's head is the copy of the embedding that lives on the first stage."""
    return name.endswith("output_layer.weight")


def mark_tied_copy(chunks: Iterable[LanguageModule]) -> None:
    """Keeps the last stage's tied copy out of DeepSpeed's gradient norm (the first stage counts it)."""
    if ps.get_pipeline_model_parallel_world_size() == 1:
        return
    for chunk in chunks:
        if chunk.share_embeddings_and_output_weights and chunk.post_process and not chunk.pre_process:
            chunk.shared_embedding_or_output_weight().ds_pipe_replicated = True
