"""`get_megatron_optimizer` gives every role its lr, weight decay and eps while `apply(mup=…)` is in force."""

from functools import wraps
from typing import Any

from megatron_patches.patch import Patch, Rung

_MODULE = "megatron.core.optimizer"


def _install(original: Any, mup: Any) -> Any:
    @wraps(original)
    def get_megatron_optimizer(config: Any, model_chunks: Any, config_overrides: Any = None, **kwargs: Any) -> Any:
        from megatron_patches.mup.groups import megatron_overrides

        overrides = megatron_overrides(model_chunks, mup, config)
        return original(config, model_chunks, {**(config_overrides or {}), **overrides}, **kwargs)

    return get_megatron_optimizer


PATCH = Patch(
    name="mup/optimizer",
    target=f"{_MODULE}:get_megatron_optimizer",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "5da46cae9e74", "0.19.2": "b087f3dfb462"},
    why="upstream's own overrides (config_overrides) can say all we need, but somebody must pass them",
    retires_when="upstream's use_mup can express this table",
    install=_install,
    watch=(f"{_MODULE}:_get_param_groups", "megatron.core.optimizer.optimizer_config:ParamKey"),
)
