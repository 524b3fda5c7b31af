"""Reading the GPU generator's state gives an empty tensor: the CPU state is saved beside it already."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    import torch

    none = torch.empty(0, dtype=torch.uint8)
    return lambda device="cuda", clone=False, graph_safe=False: none


PATCH = Patch(
    name="cpu/rng_state",
    target="megatron.core.tensor_parallel.random:_get_cuda_rng_state",
    rung=Rung.REPLACE,
    fingerprints={"0.16.1": "046045ba90ae", "0.19.2": "046045ba90ae"},
    why="activation recomputation saves both generators' states; without a GPU there is one",
    retires_when="megatron-core's checkpoint() skips the GPU generator where there is none",
    install=_install,
    watch=(
        "megatron.core.tensor_parallel.random:_get_cuda_rng_state",
        "megatron.core.tensor_parallel.random:_get_all_rng_states",
    ),
)
