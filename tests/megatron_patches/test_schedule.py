"""The WSD schedule at every boundary, against values computed by hand."""

from math import cos, pi, sqrt

import pytest

from megatron_patches.errors import PatchError
from megatron_patches.wsd.schedule import Decay, Schedule, Stage

SEQ = 4096  # the report: 480 sequences a step until 2M-token batches become 4M, then 960


def test_report_under_its_batch_ramp() -> None:
    """Warmup, ramp and decay of the report in small: lr depends on tokens, however many a step takes."""
    half_life = 5000 * 960 * SEQ
    stable, decay = 1000 * 480 * SEQ + 1000 * 960 * SEQ, 10000 * 960 * SEQ
    warmup = 100 * 480 * SEQ
    schedule = Schedule.of_stages([Stage(stable), Stage(decay, Decay("half_life", half_life))], warmup_tokens=warmup)
    consumed, lrs = 0, []
    for step in range(12000):
        consumed += (480 if step < 1000 else 960) * SEQ
        lrs.append(schedule.lr_mult_at(consumed))
    assert lrs[0] == 1 / 100
    assert lrs[98] == 99 / 100
    assert lrs[99] == 1.0
    assert lrs[999] == lrs[1000] == lrs[1999] == 1.0
    assert lrs[2000] == 0.5 ** (1 / 5000)
    assert lrs[1999 + 5000] == 0.5
    assert lrs[1999 + 10000] == 0.25
    assert consumed == schedule.total_tokens
    assert schedule.lr_mult_at(consumed + 10**12) == 0.25  # the end value holds


@pytest.mark.parametrize(
    ("shape", "quarter", "half"),
    [
        ("linear", 0.75, 0.5),
        ("cosine", (cos(pi / 4) + 1) / 2, 0.5),
        ("exponential", 2 * 0.5**0.25 - 1, sqrt(2) - 1),
        ("one_minus_sqrt", 0.5, 1 - sqrt(0.5)),
    ],
)
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_finite_shapes(shape: str, quarter: float, half: float, floor: float) -> None:
    schedule = Schedule.of_stages([Stage(1000), Stage(400, Decay(shape, floor_frac=floor))])
    for tokens, value in ((1000, 1.0), (1100, quarter), (1200, half), (1400, 0.0)):
        assert schedule.lr_mult_at(tokens) == pytest.approx(floor + (1 - floor) * value)


def test_half_life_floor_and_constant_tail() -> None:
    schedule = Schedule.of_stages([Stage(100), Stage(1000, Decay("half_life", 100, floor_frac=0.2))])
    assert [schedule.lr_mult_at(t) for t in (100, 200, 300, 400, 1100)] == [1, 0.5, 0.25, 0.2, 0.2]
    tail = Schedule.of_stages([Stage(100), Stage(200, Decay("linear", floor_frac=0.1)), Stage(400, hold=True), Stage(50)])
    assert [tail.lr_mult_at(t) for t in (100, 200, 300, 301, 700, 701)] == pytest.approx([1, 0.55, 0.1, 0.1, 0.1, 1])


def test_repeated_decays() -> None:
    """WSD-S: back to the peak after a decay, at once or over some tokens; a boundary belongs to what ends there."""
    fall = Decay("linear", floor_frac=0.1)
    schedule = Schedule.of_stages([Stage(100), Stage(50, fall), Stage(100), Stage(50, fall)])
    assert [schedule.lr_mult_at(t) for t in (150, 151, 250, 300)] == pytest.approx([0.1, 1, 1, 0.1])
    rewarmed = Schedule.of_stages([Stage(100), Stage(50, fall), Stage(100, rewarm_tokens=10)])
    assert [rewarmed.lr_mult_at(t) for t in (150, 155, 160, 161)] == pytest.approx([0.1, 0.55, 1, 1])
    decays_at_once = Schedule.of_stages([Stage(100), Stage(50, fall), Stage(60, fall, rewarm_tokens=10)])
    assert [decays_at_once.lr_mult_at(t) for t in (155, 160, 185, 210)] == pytest.approx([0.55, 1, 0.55, 0.1])


def test_single_cosine_stage_starts_after_warmup() -> None:
    schedule = Schedule.of_stages([Stage(1000, Decay("cosine"))], warmup_tokens=200)
    assert [schedule.lr_mult_at(t) for t in (0, 100, 200, 600, 1000)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_resume_compares_schedules() -> None:
    ran = Schedule.of_stages([Stage(100), Stage(50, Decay("linear"))], warmup_tokens=10)
    ran.check_same(ran.state_dict(), consumed_tokens=60)
    longer = Schedule.of_stages([Stage(100), Stage(80, Decay("half_life", 20))], warmup_tokens=10)
    with pytest.raises(PatchError, match=r"stages\[1\].*linear.*half_life") as refused:
        longer.check_same(ran.state_dict(), consumed_tokens=60)
    assert "branch" in str(refused.value)
    longer.check_same(ran.state_dict(), consumed_tokens=60, branch=True)
    early = Schedule.of_stages([Stage(60), Stage(80, Decay("cosine"))], warmup_tokens=10)
    early.check_same(ran.state_dict(), consumed_tokens=60, branch=True)  # the stable stage merely ends sooner
    with pytest.raises(PatchError, match=r"stages\[1\]"):
        longer.check_same(ran.state_dict(), consumed_tokens=120, branch=True)  # that decay has begun
    other = Schedule.of_stages([Stage(100), Stage(50, Decay("linear"))], warmup_tokens=20)
    with pytest.raises(PatchError, match="warmup_tokens: checkpoint 10, now 20"):
        other.check_same(ran.state_dict(), consumed_tokens=60, branch=True)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Decay("half_life"),
        lambda: Decay("linear", half_life_tokens=5),
        lambda: Decay("parabola"),
        lambda: Decay("linear", floor_frac=1.0),
        lambda: Stage(0),
        lambda: Stage(10, rewarm_tokens=11),
        lambda: Stage(10, Decay("linear"), hold=True),
        lambda: Schedule.of_stages([Stage(10, hold=True)]),
        lambda: Schedule.of_stages([Stage(10, rewarm_tokens=5)]),
        lambda: Schedule.of_stages([]),
        lambda: Schedule.of_stages([Stage(10)], warmup_tokens=11),
        lambda: Schedule.of_stages([Stage(10)]).lr_mult_at(-1),
    ],
)
def test_bad_schedules_are_refused(bad) -> None:
    with pytest.raises(PatchError):
        bad()
