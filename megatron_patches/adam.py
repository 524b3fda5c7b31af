"""AdamW by each of the table's backends (`capabilities.py`); all keep their moments under torch's names."""

from collections.abc import Callable
from typing import Any

import torch

from megatron_patches.errors import PatchError


def _torch(groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=True, **options)


def _apex(groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    from apex.optimizers import FusedAdam

    return FusedAdam(groups, adam_w_mode=True, **options)


def _transformer_engine(groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    from transformer_engine.pytorch.optimizers import FusedAdam

    return FusedAdam(groups, adam_w_mode=True, **options)


def _deepspeed(groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam

    if torch.cuda.is_available():
        return FusedAdam(groups, adam_w_mode=True, **options)
    return DeepSpeedCPUAdam(groups, adamw_mode=True, **options)


_BUILDERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "torch": _torch, "apex": _apex, "transformer_engine": _transformer_engine, "deepspeed": _deepspeed,
}


def build_adam(
    name: str, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float
) -> torch.optim.Optimizer:
    """AdamW over parameter groups; raises `PatchError` for a name that the table doesn't have."""
    if name not in _BUILDERS:
        raise PatchError(f"adam={name!r} is unknown; one of: {', '.join(_BUILDERS)}")
    return _BUILDERS[name](groups, lr=lr, betas=betas, eps=eps)
