"""The named random states of tensor parallelism, kept for the CPU's generator."""

import contextlib
from collections.abc import Iterator
from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    import torch

    class CpuRNGStatesTracker(original):  # type: ignore[misc, valid-type]
        """Upstream's tracker over torch's CPU generator."""

        def add(self, name: str, seed: int) -> None:
            """Starts a named state."""
            if name in self.states_ or seed in self.seeds_:
                raise ValueError(f"rng state {name!r} (seed {seed}) exists already")
            self.seeds_.add(seed)
            self.states_[name] = torch.Generator().manual_seed(seed).get_state()

        @contextlib.contextmanager
        def fork(self, name: str = "model-parallel-rng") -> Iterator[None]:
            """Draws from a named state inside the context; from the default one where none was ever added."""
            if name not in self.states_:
                yield
                return
            outside = torch.get_rng_state()
            torch.set_rng_state(self.states_[name])
            try:
                yield
            finally:
                self.states_[name] = torch.get_rng_state()
                torch.set_rng_state(outside)

    return CpuRNGStatesTracker


PATCH = Patch(
    name="cpu/rng_tracker",
    target="megatron.core.tensor_parallel.random:CudaRNGStatesTracker",
    rung=Rung.SUBCLASS,
    fingerprints={"0.16.1": "84d8671cfc41", "0.19.2": "36e52e464b47"},
    why="dropout and initialisation draw inside tracker.fork(), which reads the GPU generator's state",
    retires_when="the tracker takes a generator or a device",
    install=_install,
    watch=(
        "megatron.core.tensor_parallel.random:CudaRNGStatesTracker",
        "megatron.core.tensor_parallel.random:initialize_rng_tracker",
        "megatron.core.tensor_parallel.random:model_parallel_cuda_manual_seed",
    ),
)
