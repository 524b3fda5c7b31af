"""The closed form against the training program's own allocations, on fake tensors and on real ones."""

import pytest

from launch.plan.agreement import OTHERS, Pairs, closed_form, compare, pairs_of, real_traces, worst
from launch.plan.trace import trace, trace_deep
from tests.launch.plan.layouts import points

SMALL = (
    "sources={}", "model.num_layers=4", "model.hidden_size=256", "model.ffn_hidden_size=704", "model.num_heads=8",
    "model.num_kv_heads=4", "model.seq_length_tokens=256", "model.vocab_size=8192", "batch.micro_seqs=2",
)  # fmt: skip
REAL = {
    "zero-1": (2, 2, ("parallel.zero=1",)),
    "zero-3": (2, 2, ("parallel.zero=3",)),
    "tp": (2, 1, ("parallel.zero=0", "parallel.tp=2", "parallel.sp=true")),
    "pp": (2, 1, ("parallel.zero=0", "parallel.pp=2", "parallel.vp=2")),
    "cp": (2, 1, ("parallel.zero=1", "parallel.cp=2")),
    "tp and pp": (4, 1, ("parallel.zero=0", "parallel.tp=2", "parallel.pp=2", "parallel.sp=true")),
}  # world size, data-parallel size, changes


def small(dp: int, changes: tuple[str, ...]) -> list[str]:
    return [*SMALL, f"batch.global_tokens={256 * 2 * 4 * dp}", *changes]


def hold(pairs: Pairs) -> None:
    assert worst(pairs) < 0.03, pairs


@pytest.mark.parametrize(
    ("world_size", "rank", "changes"),
    [
        (1, 0, ("parallel.zero=0",)),
        (1, 0, ("parallel.zero=0", "parallel.recompute=full")),  # the peak: head's and embedding's gradients, and their sum
        (2, 0, ("parallel.zero=0", "parallel.pp=2", "parallel.vp=2")),
    ],
)
def test_closed_form_and_trace_agree(world_size, rank, changes):
    hold(compare("nano", world_size=world_size, rank=rank, overrides=small(1, changes)))


@pytest.mark.slow
@pytest.mark.parametrize("one", points(), ids=lambda one: one.label)
def test_closed_form_and_trace_agree_on_many_layouts(one):
    hold(compare("nano", world_size=one.world_size, rank=one.rank, overrides=one.overrides))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(REAL))
def test_closed_form_and_trace_are_what_real_processes_allocate(name):
    """Nothing was fitted to these: the tracker counts the storages of real tensors in real processes."""
    world_size, dp, changes = REAL[name]
    asked = {"world_size": world_size, "overrides": [*small(dp, changes), "precision=fp32"]}  # bf16 is slow on many CPUs
    for rank, real in enumerate(real_traces("nano", **asked)):
        for name, (ours, theirs) in pairs_of(closed_form("nano", rank=rank, **asked), real).items():
            assert abs(ours - theirs) < 0.05 * real["forward_backward"], (name, ours, theirs)
        traced = trace("nano", rank=rank, **asked)
        assert traced["forward_backward"] == pytest.approx(real["forward_backward"], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [("parallel.zero=1",), ("parallel.zero=0", "parallel.pp=2", "parallel.recompute=full")])
def test_two_layer_counts_extend_linearly(changes):
    deep = {"world_size": 2, "overrides": [*small(2, changes), "model.num_layers=12"]}
    whole, extended = trace("nano", **deep), trace_deep("nano", **deep)
    assert extended["traced_layers"][1] < 12
    assert extended["forward_backward"] == pytest.approx(whole["forward_backward"], rel=0.002)
    for name, size in whole["peak"].items():
        assert extended["peak"][name] == pytest.approx(size, abs=0.002 * whole["forward_backward"])


@pytest.mark.slow
def test_70b_on_1024_ranks_is_traced_from_two_small_layer_counts():
    """The preset as it is: tensor, pipeline and virtual stages, 32 replicas."""
    asked = {"world_size": 1024, "rank": 0, "overrides": ["parallel.recompute=full"]}
    traced = trace_deep("70b", **asked)
    assert traced["traced_layers"] == (40, 60)
    pairs = pairs_of(closed_form("70b", **asked), traced)
    assert pairs[OTHERS][1] > 2**30
    hold(pairs)
