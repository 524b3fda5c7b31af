"""Optimizer groups from the muP table: one group per role."""

from collections.abc import Sequence
from typing import Any

import torch

from megatron_patches.errors import PatchError
from megatron_patches.mup.init import is_tied, named_parameters
from megatron_patches.mup.rules import Mup, Role, Rule, role_of

DECAY_MODES = ("coupled", "independent")


def parameter_groups(
    model: torch.nn.Module | Sequence[torch.nn.Module],
    mup: Mup,
    peak_lr: float,
    weight_decay: float,
    *,
    eps: float = 1e-8,
    decay_mode: str = "coupled",
) -> list[dict[str, Any]]:
    """Groups for any torch optimizer (and DeepSpeed), in the table's order; roles without parameters are left out.

    Args:
        model: A GPTModel, or the chunks of an interleaved pipeline, before ZeRO-3 partitions it.
        peak_lr: Base learning rate at the schedule's multiplier 1.
        weight_decay: AdamW's λ, which it multiplies by the current lr ("coupled"); "independent" makes a step shrink
            weights by λ × schedule, whatever peak_lr and the role's lr_mult are.

    Returns:
        Dicts with `params`, `role`, `lr` (at multiplier 1), `max_lr`, `lr_mult`, `wd_mult`, `weight_decay`, `eps`.
    """
    chunks = [model] if isinstance(model, torch.nn.Module) else model
    by_role: dict[Role, list[torch.nn.Parameter]] = {}
    for chunk in chunks:
        tied = is_tied(chunk)
        for name, param in named_parameters(chunk):
            if param.requires_grad:
                by_role.setdefault(role_of(name, tied=tied), []).append(param)
    table = mup.table()
    return [
        {"params": by_role[role], **group_values(role, table[role], peak_lr, weight_decay, eps=eps, decay_mode=decay_mode)}
        for role in table
        if role in by_role
    ]


def group_values(
    role: Role, rule: Rule, peak_lr: float, weight_decay: float, *, eps: float = 1e-8, decay_mode: str = "coupled"
) -> dict[str, Any]:
    """One role's optimizer settings; the audit compares live groups with exactly this."""
    if decay_mode not in DECAY_MODES:
        raise PatchError(f"decay_mode={decay_mode!r} is unknown; one of: {', '.join(DECAY_MODES)}")
    wd_mult = rule.wd_mult if decay_mode == "coupled" or rule.wd_mult == 0 else 1 / (rule.lr_mult * peak_lr)
    return {
        "role": str(role),
        "lr": peak_lr * rule.lr_mult,
        "max_lr": peak_lr * rule.lr_mult,
        "lr_mult": rule.lr_mult,
        "wd_mult": wd_mult,
        "weight_decay": weight_decay * wd_mult,
        "eps": eps * rule.eps_mult,
    }


def megatron_overrides(chunks: Sequence[torch.nn.Module], mup: Mup, config: Any) -> dict[Any, Any]:
    """The same table as upstream's `config_overrides` for `get_megatron_optimizer`.

    Args:
        config: Upstream's OptimizerConfig (lr, min_lr, adam_eps).
    """
    from megatron.core.optimizer.optimizer_config import ParamKey, ParamWithNamePredicate

    tied = is_tied(chunks[0])
    overrides = {}
    for role, rule in mup.table().items():
        values = group_values(role, rule, config.lr, config.weight_decay, eps=config.adam_eps)
        key = ParamKey(with_name_predicate=ParamWithNamePredicate(f"mup_{role}", _matches(role, tied)))
        overrides[key] = {
            "role": str(role),
            "max_lr": values["max_lr"],
            "min_lr": (config.min_lr or 0.0) * rule.lr_mult,
            "wd_mult": values["wd_mult"],
            "eps": values["eps"],
        }
    return overrides


def _matches(role: Role, tied: bool) -> Any:
    return lambda _param, name: role_of(name, tied=tied) is role
