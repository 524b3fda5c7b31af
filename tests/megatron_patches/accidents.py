"""The known accidents, planted into a live DeepSpeed run; each must be found by the audit."""

from collections.abc import Callable
from typing import Any

from megatron_patches.mup.audit import audit, live_groups
from megatron_patches.mup.logits import scale_input

# A real one, given to DeepSpeed when the engine is made: it sets one lr for all groups after every step (DeepSpeed issue 7713).
SCHEDULER_BLOCK = {"scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 0.01, "warmup_num_steps": 2}}}


def groups_lost_on_load(engine: Any) -> None:
    """A checkpoint's groups replace the live ones, without what the table put there."""
    for group in engine.param_groups:
        for key in ("role", "lr_mult", "wd_mult"):
            group.pop(key, None)
        group.update(lr=0.01, weight_decay=0.0, eps=1e-8)


def grouped_by_dimensions_after_flattening(engine: Any) -> None:
    """Under ZeRO-3 every parameter is one-dimensional: matrices chosen by ndim end up among the gains."""
    groups = list(live_groups(engine.engine.optimizer))
    gain = next(group for group, _ in groups if group["role"] == "norm_gain")
    for group, _ in groups:
        group.update(lr=gain["lr"], eps=gain["eps"], weight_decay=gain["weight_decay"])


def tied_head_scaled_twice(engine: Any) -> None:
    """The logits multiplier once more."""
    for chunk in engine.chunks:
        if chunk.post_process:
            scale_input(chunk.output_layer, engine.mup.logits_mult)


def one_branch_unscaled(engine: Any) -> None:
    """One layer's MLP joins the residual stream unscaled."""
    from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add

    engine.chunks[0].decoder.layers[0].mlp_bda = get_bias_dropout_add


def weights_from_another_init(engine: Any) -> None:
    """A matrix with twice the table's spread."""
    import torch

    param = engine.chunks[0].decoder.layers[0].mlp.linear_fc1.weight
    with torch.no_grad():
        getattr(param, "ds_tensor", param).mul_(2)


ACCIDENTS: tuple[Callable[[Any], None], ...] = (
    groups_lost_on_load,
    grouped_by_dimensions_after_flattening,
    tied_head_scaled_twice,
    one_branch_unscaled,
    weights_from_another_init,
)


def findings(engine: Any, mup: Any, peak_lr: float, vocab_size: int) -> list[str]:
    """What the audit finds after the first step, over all ranks."""
    import torch

    found = audit(
        engine.chunks, engine.engine.optimizer, mup, base_lr=peak_lr, weight_decay=0.0, fresh_moved=peak_lr,
        vocab_size=vocab_size,
    )  # fmt: skip
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, [str(one) for one in found])
    return sorted({line for lines in gathered for line in lines})


def run_audits(engine: Any, mup: Any, peak_lr: float, vocab_size: int) -> dict[str, list[str]]:
    """Audits a healthy engine, then plants each accident in turn; groups are put back in between.

    Returns:
        "healthy" and each accident -> findings of all ranks.
    """
    result = {"healthy": findings(engine, mup, peak_lr, vocab_size)}
    for accident in ACCIDENTS:
        saved = [{k: v for k, v in group.items() if k != "params"} for group in engine.param_groups]
        before = set(findings(engine, mup, peak_lr, vocab_size))
        accident(engine)
        result[accident.__name__] = sorted(set(findings(engine, mup, peak_lr, vocab_size)) - before)
        for group, values in zip(engine.param_groups, saved):
            group.update(values)
    return result
