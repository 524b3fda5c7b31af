"""The audit of what batch and duration change, on a live model and optimizer of one process (all ranks: test_layouts.py)."""

from dataclasses import replace

import pytest
import torch

import megatron_patches
from megatron_patches.cpu.world import single_process_world
from megatron_patches.example_megatron_only import MUP, Training
from megatron_patches.mup.audit import audit
from megatron_patches.mup.groups import parameter_groups
from megatron_patches.mup.model import attach, build_spec, configure
from megatron_patches.mup.rules import Budget, Mup
from megatron_patches.wsd.half_life import HalfLife
from tests.megatron_patches.harness import transformer_config
from tests.megatron_patches.test_base_width import gpt

BETAS = (0.9, 0.95)


@pytest.mark.parametrize("decay_mode", ["coupled", "independent"])
def test_audit_holds_the_optimizer_against_batch_and_duration(cpu, decay_mode: str) -> None:
    mup = Mup("minicpm", base_width=32, width=64, head_dim=16, budget=Budget(batch_mult=4, duration_mult=2))
    config = configure(transformer_config(), mup)
    model = attach(gpt(config, build_spec(config, mup=mup, attention="unfused")), mup)
    optimizer = torch.optim.AdamW(parameter_groups(model, mup, 0.01, 0.1, betas=BETAS, decay_mode=decay_mode))

    def found(against: Mup = mup) -> set[tuple[str, str]]:
        mismatches = audit(
            model, optimizer, against, base_lr=0.01, peak_lr=0.01, weight_decay=0.1, betas=BETAS, decay_mode=decay_mode
        )
        return {(one.role, one.quantity) for one in mismatches}

    assert found() == set()
    optimizer.param_groups[0]["betas"] = BETAS  # as they were before the batch grew
    role = optimizer.param_groups[0]["role"]
    assert found() == {(role, "beta1"), (role, "beta2")}
    optimizer.param_groups[0]["betas"] = (0.8, 0.9)
    left_out = found(Mup("minicpm", base_width=32, width=64, head_dim=16))
    assert {quantity for _, quantity in left_out} >= {"lr", "eps", "beta1", "beta2", "weight_decay"}


def test_upstreams_optimizer_follows_batch_and_duration() -> None:
    """`apply(mup=…)` alone: Megatron-Core's distributed optimizer of the example gets the table's betas, lr and eps."""
    mup = replace(MUP, budget=Budget(batch_mult=4, duration_mult=2))
    with megatron_patches.apply(cpu=True, mup=mup, wsd=HalfLife(4)):
        single_process_world()
        training = Training(width=mup.width, depth=mup.depth, heads=mup.width // mup.head_dim)
        training.scheduler.step(2)  # past the warmup
        own = (0.9, 0.999)  # OptimizerConfig's
        found = audit(training.model, training.optimizer, mup, base_lr=0.01, weight_decay=0.1, betas=own)
        assert [str(one) for one in found] == []
        assert {group["betas"] for group in training.optimizer.param_groups} == {(0.8, 0.998)}
