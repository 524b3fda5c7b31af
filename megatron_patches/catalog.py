"""The list of every difference from upstream. `windtunnel patches` prints it."""

import importlib

from megatron_patches.patch import Patch

# One module a difference; each holds a PATCH. The order is the order of installation.
MODULES = (
    "cpu.current_device",
    "cpu.synchronize",
    "cpu.current_stream",
    "cpu.tensor_cuda",
    "cpu.rng_tracker",
    "cpu.rng_state",
    "cpu.rng_restore",
    "cpu.schedules",
    "cpu.causal_mask",
    "cpu.rope",
    "cpu.optimizer",
    "cpu.clip_grads",
    "cpu.clip_scale",
    "cpu.l2_norm",
    "cpu.tensor_type",
    "cpu.config",
    "cpu.norm",
    "zero.startup",
    "attention.sdpa",
    "loss.head",
    "mup.embedding",
    "mup.residual",
    "mup.logits",
    "mup.softmax",
    "mup.gpt_model",
    "mup.optimizer",
    "wsd.half_life",
    "wsd.state",
    "wsd.resume",
)


def catalogue() -> tuple[Patch, ...]:
    """Every patch, in order of installation. Imports no torch."""
    return tuple(importlib.import_module(f"megatron_patches.{module}").PATCH for module in MODULES)
