"""Restoring the GPU generator's state does nothing."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    return lambda new_state, device=-1, graph_safe=False: None


PATCH = Patch(
    name="cpu/rng_restore",
    target="megatron.core.tensor_parallel.random:_set_cuda_rng_state",
    rung=Rung.REPLACE,
    fingerprints={"0.16.1": "83ee55a3ff01", "0.19.2": "83ee55a3ff01"},
    why="the counterpart of cpu/rng_state: recomputation would set a GPU generator that is not there",
    retires_when="megatron-core's checkpoint() skips the GPU generator where there is none",
    install=_install,
    watch=(
        "megatron.core.tensor_parallel.random:_set_cuda_rng_state",
        "megatron.core.tensor_parallel.random:_set_all_rng_states",
    ),
)
