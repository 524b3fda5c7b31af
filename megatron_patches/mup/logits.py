"""Logits are × logits_mult, by scaling the head's input: h/tp numbers a token instead of vocab/tp."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def scale_input(module: Any, mult: float) -> None:
    """Hooks an output layer; a multiplier of 1 leaves the module untouched."""
    if mult != 1:
        module.register_forward_pre_hook(lambda _module, args: (args[0] * mult, *args[1:]))


PATCH = Patch(
    name="mup/logits",
    target="megatron.core.models.gpt.gpt_model:GPTModel._postprocess",
    rung=Rung.HOOK,
    fingerprints={"0.16.1": "13ca14cca829", "0.19.2": "79af10eeb3d5"},
    why="megatron-core 0.16 has no logits multiplier, later ones only with use_mup",
    retires_when="the range starts at a version whose multiplier works without use_mup",
)
