"""The closed form against the training program's own allocations, counted on fake tensors."""

import pytest

from launch.plan.agreement import compare, worst

SMALL = (
    "sources={}", "model.num_layers=4", "model.hidden_size=128", "model.ffn_hidden_size=320", "model.num_heads=4",
    "model.num_kv_heads=2", "model.seq_length_tokens=256", "model.vocab_size=2048", "batch.micro_seqs=2",
    "backends.cross_entropy=unfused",  # the closed form knows full logits
)  # fmt: skip


@pytest.mark.parametrize(
    ("world_size", "rank", "changes"),
    [
        (1, 0, ()),
        pytest.param(4, 0, (), marks=pytest.mark.slow),
        pytest.param(2, 0, ("parallel.tp=2", "parallel.sp=true"), marks=pytest.mark.slow),
        pytest.param(2, 1, ("parallel.pp=2",), marks=pytest.mark.slow),
        (2, 0, ("parallel.pp=2", "parallel.vp=2")),
    ],
)
def test_closed_form_and_trace_agree(world_size, rank, changes):
    replicas = 4 if world_size == 4 else 1
    overrides = [*SMALL, f"batch.global_tokens={256 * 2 * 4 * replicas}", *changes]
    assert worst(compare("nano", world_size=world_size, rank=rank, overrides=overrides)) < 0.03
