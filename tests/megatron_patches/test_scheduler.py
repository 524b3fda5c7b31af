"""Megatron-Core's own OptimizerParamScheduler under our patches: the half-life decay, a complete state, resumes."""

from types import SimpleNamespace
from typing import Any

import pytest

import megatron_patches
from megatron_patches.errors import PatchError
from megatron_patches.wsd.half_life import HalfLife

PEAK, WARMUP, STABLE, DECAY, HALF = 0.01, 4800, 96_000, 48_000, 9600  # in sequences, as Megatron's loop counts


def scheduler(**more: Any) -> Any:
    """Two groups, as muP makes them: the base lr, and a quarter of it."""
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    groups = [{"max_lr": PEAK, "min_lr": 0.0, "wd_mult": 1.0}, {"max_lr": PEAK / 4, "min_lr": 0.0, "wd_mult": 4.0}]
    settings: dict[str, Any] = {
        "init_lr": 0.0, "max_lr": PEAK, "min_lr": 0.0, "lr_warmup_steps": WARMUP, "lr_decay_steps": STABLE + DECAY,
        "lr_decay_style": "WSD", "wsd_decay_steps": DECAY, "lr_wsd_decay_style": "half_life", "start_wd": 0.0, "end_wd": 0.1,
        "wd_incr_steps": 96_000, "wd_incr_style": "linear",
    }  # fmt: skip
    return OptimizerParamScheduler(SimpleNamespace(param_groups=groups), **{**settings, **more})


def live(one: Any) -> list[tuple[float, float]]:
    return [(group["lr"], group["weight_decay"]) for group in one.optimizer.param_groups]


def run_to(one: Any, sequences: int) -> None:
    """Steps of 480 sequences up to 48,000 of them, of 960 after that."""
    while one.num_steps < sequences:
        one.step(480 if one.num_steps < 48_000 else 960)
    assert one.num_steps == sequences


def test_every_boundary_under_the_batch_ramp() -> None:
    """Warmup's and ramp's ends, the last stable step, the first of the decay, whole half-lives, the end and after it."""
    with megatron_patches.apply(cpu=False, wsd=HalfLife(HALF)):
        one = scheduler()
        assert live(one)[0][0] == 0.0
        for at, mult in (
            (480, 0.1), (4320, 0.9), (4800, 1.0), (5280, 1.0), (48_000, 1.0), (48_960, 1.0), (96_000, 1.0),
            (96_960, 0.5**0.1), (105_600, 0.5), (115_200, 0.25), (144_000, 0.5**5), (144_960, 0.5**5),
        ):  # fmt: skip
            run_to(one, at)
            wd = 0.1 * min(at / 96_000, 1.0)
            assert live(one) == [(pytest.approx(PEAK * mult), pytest.approx(wd)),
                                 (pytest.approx(PEAK * mult / 4), pytest.approx(4 * wd))], at  # fmt: skip


def test_a_floor_holds() -> None:
    with megatron_patches.apply(cpu=False, wsd=HalfLife(HALF)):
        one = scheduler()
        for group in one.optimizer.param_groups:
            group["min_lr"] = 0.3 * group["max_lr"]
        run_to(one, 144_000)
        assert [lr for lr, _ in live(one)] == pytest.approx([0.003, 0.00075])


@pytest.mark.parametrize("style", ["exponential", "linear", "cosine", "minus_sqrt"])
def test_upstreams_own_decays_are_left_alone(style: str) -> None:
    def curve() -> list[list[tuple[float, float]]]:
        one, out = scheduler(lr_wsd_decay_style=style), []
        while one.num_steps < STABLE + DECAY + 960:
            one.step(960)
            out.append(live(one))
        return out

    plain = curve()
    with megatron_patches.apply(cpu=False, wsd=HalfLife(HALF)):
        assert curve() == plain


@pytest.mark.parametrize("at", [2400, 48_000, 96_000, 105_600])
def test_resume_reproduces_lr_and_weight_decay_on_the_first_step(at: int) -> None:
    """Before any step after the load, and on the first one; weight decay ramps, so a wrong count would show."""
    with megatron_patches.apply(cpu=False, wsd=HalfLife(HALF)):
        ran = scheduler()
        run_to(ran, at)
        resumed = scheduler()
        saved = ran.state_dict()
        resumed.load_state_dict(saved)
        assert resumed.state_dict() == saved
        assert live(resumed) == live(ran)
        resumed.load_state_dict(saved)  # a second load adds nothing
        ran.step(960)
        resumed.step(960)
        assert live(resumed) == live(ran)


@pytest.mark.parametrize(
    "changed", [{"wsd_decay_steps": 24_000}, {"lr_wsd_decay_style": "linear"}, {"init_lr": 0.001}], ids=lambda c: next(iter(c))
)
def test_a_changed_decay_is_refused_unless_it_is_a_branch(changed: dict[str, Any]) -> None:
    with megatron_patches.apply(cpu=False, wsd=HalfLife(HALF)):
        ran = scheduler()
        run_to(ran, 96_000)
        with pytest.raises(PatchError, match=rf"{next(iter(changed))}: checkpoint .*, now .*branch"):
            scheduler(**changed).load_state_dict(ran.state_dict())
        branch = scheduler(**changed, override_opt_param_scheduler=True, use_checkpoint_opt_param_scheduler=False)
        branch.load_state_dict(ran.state_dict())
        assert branch.num_steps == 96_000


def test_a_changed_half_life_is_refused() -> None:
    with megatron_patches.apply(cpu=False, wsd=HalfLife(HALF)):
        saved = scheduler().state_dict()
    with (
        megatron_patches.apply(cpu=False, wsd=HalfLife(2 * HALF)),
        pytest.raises(PatchError, match="half_life_steps: checkpoint 9600, now 19200"),
    ):
        scheduler().load_state_dict(saved)


def test_the_subclass_is_the_patched_scheduler() -> None:
    from megatron_patches.wsd.scheduler import HalfLifeScheduler

    groups = [{"max_lr": PEAK, "min_lr": 0.0}]
    subclass = HalfLifeScheduler(
        SimpleNamespace(param_groups=groups), 0.0, PEAK, 0.0, WARMUP, STABLE + DECAY, "WSD", 0.1, 0.1, 1, "constant",
        wsd_decay_steps=DECAY, lr_wsd_decay_style="half_life", half_life_steps=HALF,
    )  # fmt: skip
    subclass.step(105_600)
    assert groups[0]["lr"] == pytest.approx(PEAK / 2)
    assert subclass.state_dict()["half_life_steps"] == HALF


def test_half_life_without_its_length_says_so() -> None:
    with megatron_patches.apply(cpu=False, wsd=True):
        one = scheduler()
        with pytest.raises(PatchError, match=r"HalfLife\(half_life_steps"):
            one.step(96_480)
