"""The scheduler's saved state is complete."""

from functools import wraps
from typing import Any

from megatron_patches.patch import Patch, Rung

KEYS = ("wsd_decay_steps", "lr_wsd_decay_style", "init_lr")


def _install(original: Any, option: Any) -> Any:
    @wraps(original)
    def state_dict(self: Any) -> dict[str, Any]:
        return {**original(self), **{key: getattr(self, key) for key in KEYS}}

    return state_dict


PATCH = Patch(
    name="wsd/state",
    target="megatron.core.optimizer_param_scheduler:OptimizerParamScheduler.state_dict",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "e10ca50fa8f6", "0.19.2": "e10ca50fa8f6"},
    why="the saved state leaves out the decay's length and style, so a resume can change them silently",
    retires_when="state_dict holds wsd_decay_steps and lr_wsd_decay_style",
    install=_install,
)
