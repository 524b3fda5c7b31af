"""The scheduler's saved state is complete."""

from functools import wraps
from typing import Any

from megatron_patches.patch import Patch, Rung
from megatron_patches.wsd.half_life import half_life_of

_KEYS = ("wsd_decay_steps", "lr_wsd_decay_style", "init_lr")


def decay_state(scheduler: Any, option: Any) -> dict[str, Any]:
    """What upstream's state leaves out of what decides the lr."""
    return {key: getattr(scheduler, key) for key in _KEYS} | {"half_life_steps": half_life_of(scheduler, option)}


def _install(original: Any, option: Any) -> Any:
    @wraps(original)
    def state_dict(self: Any) -> dict[str, Any]:
        return {**original(self), **decay_state(self, option)}

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
