"""A world of one process, for checks and examples that need Megatron-Core's groups but no launcher."""


def single_process_world() -> None:
    """Starts a gloo process group of one and Megatron-Core's groups on it; does nothing the second time."""
    import torch
    from megatron.core import parallel_state as ps

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    if not ps.model_parallel_is_initialized():
        ps.initialize_model_parallel()
