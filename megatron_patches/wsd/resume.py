"""Loading the scheduler's state gives the first step its lr and weight decay."""

from functools import wraps
from typing import Any

from megatron_patches.errors import PatchError
from megatron_patches.patch import Patch, Rung
from megatron_patches.wsd.state import decay_state


def _install(original: Any, option: Any) -> Any:
    @wraps(original)
    def load_state_dict(self: Any, state_dict: dict[str, Any]) -> None:
        mine = decay_state(self, option)
        changed = {key: (state_dict[key], mine[key]) for key in mine if state_dict.get(key, mine[key]) != mine[key]}
        if changed and not self.override_opt_param_scheduler:
            told = "; ".join(f"{key}: checkpoint {saved!r}, now {now!r}" for key, (saved, now) in changed.items())
            raise PatchError(
                f"the WSD decay differs from the checkpoint's ({told}); override_opt_param_scheduler=True makes it a branch"
            )
        self.num_steps = 0  # upstream adds the saved steps to whatever is there
        original(self, state_dict)
        self.step(0)  # upstream steps before it restores the weight decay's range

    return load_state_dict


PATCH = Patch(
    name="wsd/resume",
    target="megatron.core.optimizer_param_scheduler:OptimizerParamScheduler.load_state_dict",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "184ef168e9fe", "0.19.2": "184ef168e9fe"},
    why="upstream sets the weight decay before it restores its range, adds steps on a second load, never compares the decay",
    retires_when="load_state_dict restores everything, then steps",
    install=_install,
)
