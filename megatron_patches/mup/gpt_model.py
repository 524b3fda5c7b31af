"""A GPTModel built while `apply(mup=…)` is in force is a muP model: for scripts that know nothing of us."""

from functools import wraps
from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, mup: Any) -> Any:
    @wraps(original)
    def init(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        import torch

        from megatron_patches.mup.init import initialise
        from megatron_patches.mup.model import attach, configure

        configure(config, mup)
        original(self, config, *args, **kwargs)
        attach(self, mup)
        if config.perform_initialization:
            initialise(self, mup, torch.initial_seed(), config)

    return init


PATCH = Patch(
    name="mup/gpt_model",
    target="megatron.core.models.gpt.gpt_model:GPTModel.__init__",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "744248e9b040", "0.19.2": "5e8ee9bdd426"},
    why="multipliers and initial values must be in place before an optimizer or a wrapper sees the model",
    retires_when="upstream's use_mup can express this table (no depth multiplier, another output-projection init, eps)",
    install=_install,
)
