"""Optimizer groups from the muP table: one group per role."""

from collections.abc import Sequence
from typing import Any

import torch

from megatron_patches.mup.init import is_tied, named_parameters
from megatron_patches.mup.rules import Mup, Role, group_values, role_of


def parameter_groups(
    model: torch.nn.Module | Sequence[torch.nn.Module],
    mup: Mup,
    peak_lr: float,
    weight_decay: float,
    *,
    eps: float = 1e-8,
    betas: tuple[float, float] | None = None,
    decay_mode: str = "coupled",
) -> list[dict[str, Any]]:
    """Groups for any torch optimizer (and DeepSpeed), in the table's order; roles without parameters are left out.

    Args:
        model: A GPTModel, or the chunks of an interleaved pipeline, before ZeRO-3 partitions it.
        peak_lr: Base learning rate at the schedule's multiplier 1.
        weight_decay: AdamW's λ, which it multiplies by the current lr ("coupled"); "independent" makes a step shrink
            weights by λ × schedule, whatever peak_lr and the role's lr_mult are (but for the budget).
        betas: Adam's, which then stand in the groups; None leaves them to the optimizer.

    Returns:
        Dicts with `params`, `role`, `lr` (at multiplier 1), `max_lr`, `lr_mult`, `wd_mult`, `weight_decay`, `eps`, `betas`.

    Raises:
        PatchError: Batch or duration differ from the base and no betas are given.
    """
    chunks = [model] if isinstance(model, torch.nn.Module) else model
    by_role: dict[Role, list[torch.nn.Parameter]] = {}
    for chunk in chunks:
        tied = is_tied(chunk)
        for name, param in named_parameters(chunk):
            if param.requires_grad:
                by_role.setdefault(role_of(name, tied=tied), []).append(param)
    return [
        {
            "params": by_role[role],
            **group_values(role, rule, peak_lr, weight_decay, eps=eps, betas=betas, decay_mode=decay_mode),
        }
        for role, rule in mup.table().items()
        if role in by_role
    ]


def megatron_overrides(chunks: Sequence[torch.nn.Module], mup: Mup, config: Any) -> dict[Any, Any]:
    """The same table as upstream's `config_overrides` for `get_megatron_optimizer`.

    Args:
        config: Upstream's OptimizerConfig (lr, min_lr, adam_eps, adam_beta1, adam_beta2).
    """
    from megatron.core.optimizer.optimizer_config import ParamKey, ParamWithNamePredicate

    tied = is_tied(chunks[0])
    overrides = {}
    for role, rule in mup.table().items():
        betas = (config.adam_beta1, config.adam_beta2)
        values = group_values(role, rule, config.lr, config.weight_decay, eps=config.adam_eps, betas=betas)
        key = ParamKey(with_name_predicate=ParamWithNamePredicate(f"mup_{role}", _matches(role, tied)))
        overrides[key] = {
            "role": str(role),
            "max_lr": values["max_lr"],
            "min_lr": (config.min_lr or 0.0) * rule.lr_mult,
            "wd_mult": values["wd_mult"],
            "eps": values["eps"],
            "betas": values["betas"],
        }
    return overrides


def _matches(role: Role, tied: bool) -> Any:
    return lambda _param, name: role_of(name, tied=tied) is role
