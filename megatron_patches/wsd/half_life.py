"""`lr_wsd_decay_style="half_life"` in Megatron-Core's OptimizerParamScheduler."""

from dataclasses import dataclass
from functools import wraps
from typing import Any

from megatron_patches.errors import PatchError
from megatron_patches.patch import Patch, Rung


@dataclass(frozen=True)
class HalfLife:
    """`apply(wsd=…)`'s argument.

    Attributes:
        half_life_steps: T of 0.5^((s − S)/T), in the scheduler's own steps (Megatron's training loop counts samples).
    """

    half_life_steps: int


def half_life_of(scheduler: Any, option: Any) -> int | None:
    """T: the scheduler's own (`HalfLifeScheduler`) or `apply(wsd=…)`'s."""
    default = option.half_life_steps if isinstance(option, HalfLife) else None
    found: int | None = getattr(scheduler, "half_life_steps", default)
    return found


def half_life_lr(scheduler: Any, group: dict[str, Any], half_life_steps: int | None) -> float | None:
    """The decayed lr, or None where upstream's own code decides (warmup, stable part, other styles)."""
    if scheduler.lr_decay_style != "WSD" or scheduler.lr_wsd_decay_style != "half_life":
        return None
    since = scheduler.num_steps - (scheduler.lr_decay_steps - scheduler.wsd_decay_steps)
    if since <= 0 or scheduler.num_steps <= scheduler.lr_warmup_steps:
        return None
    since = min(since, scheduler.wsd_decay_steps)
    if not half_life_steps:
        raise PatchError("lr_wsd_decay_style='half_life' needs T: apply(wsd=HalfLife(half_life_steps=…))")
    decayed = group.get("max_lr", scheduler.max_lr) * 0.5 ** (since / half_life_steps)
    return max(group.get("min_lr", scheduler.min_lr), decayed)


def _install(original: Any, option: Any) -> Any:
    @wraps(original)
    def get_lr(self: Any, param_group: dict[str, Any]) -> float:
        decayed = half_life_lr(self, param_group, half_life_of(self, option))
        return original(self, param_group) if decayed is None else decayed

    return get_lr


PATCH = Patch(
    name="wsd/half_life",
    target="megatron.core.optimizer_param_scheduler:OptimizerParamScheduler.get_lr",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "00dd10eea4f2", "0.19.2": "00dd10eea4f2"},
    why="upstream's exponential WSD decay is 2·0.5^r − 1, which ends at 0; the report's is 0.5^((s − S)/T), which doesn't",
    retires_when="OptimizerParamScheduler takes a decay function",
    install=_install,
)
