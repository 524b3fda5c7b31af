"""OptimizerParamScheduler with the report's decay, for scripts that would rather subclass than patch.

HalfLifeScheduler(optimizer, ..., lr_decay_style="WSD", lr_wsd_decay_style="half_life", half_life_steps=5000)
"""

from typing import Any

from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from megatron_patches.wsd import resume, state
from megatron_patches.wsd.half_life import half_life_lr


class HalfLifeScheduler(OptimizerParamScheduler):
    """Upstream's scheduler plus `half_life_steps` (in its own steps) and a complete state."""

    def __init__(self, *args: Any, half_life_steps: int | None = None, **kwargs: Any) -> None:
        self.half_life_steps = half_life_steps  # before upstream's __init__, which steps
        super().__init__(*args, **kwargs)

    def get_lr(self, param_group: dict[str, Any]) -> float:
        """The group's lr at `num_steps`."""
        decayed = half_life_lr(self, param_group, self.half_life_steps)
        return super().get_lr(param_group) if decayed is None else decayed

    state_dict = state._install(OptimizerParamScheduler.state_dict, None)
    load_state_dict = resume._install(OptimizerParamScheduler.load_state_dict, None)
