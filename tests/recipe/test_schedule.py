"""What a recipe can say of the learning rate: repeated decays, a constant tail, and values carried over from another budget."""

from pathlib import Path
from typing import Any

import pytest

from recipe.config import RunConfig
from recipe.load import load_recipe
from recipe.lower import mup_rows, schedule_of, schedule_rows
from recipe.prepare import load_resolved
from recipe.resolve import resolve
from recipe.rundir import read_jsonl
from tests.recipe.runs import finish, prepared

# 128 tokens a step, then 256; half-life 256: the stages end at 1024, 1536, 2560, 2816 and 3328 tokens
STAGES = (
    "stages=["
    "{name: stable, tokens: 1024, mixture: {text: 100}, batch: {from_tokens: 128, to_tokens: 256, over_tokens: 512}}, "
    "{name: decay, tokens: 512, mixture: {text: 100}, lr: {shape: half_life, half_life_tokens: 256}}, "
    "{name: again, tokens: 1024, mixture: {text: 100}, lr: {rewarm_tokens: 512}}, "
    "{name: decay_again, tokens: 256, mixture: {text: 100}, lr: {shape: linear, floor_frac: 0.1}}, "
    "{name: tail, tokens: 512, mixture: {text: 100}, lr: {shape: hold}}]"
)
STEPS = [128, 256, 384, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 2560, 2816, 3072, 3328]  # consumed after each
BY_HAND = [0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.25, 0.625, 1, 1, 1, 0.1, 0.1, 0.1]  # ÷ peak, warmup over 512 tokens


def recipe(*overrides: str) -> RunConfig:
    shape = ("model.seq_length_tokens=32", "sources={text: {kind: text, path: x}}", "tokenizer.train_on={text: 1}")
    batch = ("batch.global_tokens=256", "batch.micro_seqs=2", "optim.warmup_tokens=512")
    return load_recipe("demo", [*shape, *batch, STAGES, *overrides])


def test_repeated_decays_and_a_tail_at_every_boundary() -> None:
    resolved = resolve(recipe(), world_size=1)
    schedule = schedule_of(resolved)
    assert [resolved.tokens_before(step + 1) for step in range(resolved.num_steps)] == STEPS
    assert [schedule.lr_mult_at(tokens) for tokens in STEPS] == pytest.approx(BY_HAND, rel=1e-12)


def test_show_has_the_rate_at_every_boundary() -> None:
    rows = schedule_rows(resolve(recipe(), world_size=1))
    told = [(r["stage"], r["first_step"], r["last_step"], r["batch_seqs"], r["end_tokens"]) for r in rows]
    assert told == [
        ("stable", 0, 3, 4, 512), ("stable", 4, 5, 8, 1024), ("decay", 6, 7, 8, 1536), ("again", 8, 9, 8, 2048),
        ("again", 10, 11, 8, 2560), ("decay_again", 12, 12, 8, 2816), ("tail", 13, 14, 8, 3328),
    ]  # fmt: skip
    for row in rows:
        assert row["first_lr"] == pytest.approx(0.01 * BY_HAND[row["first_step"]])
        assert row["last_lr"] == pytest.approx(0.01 * BY_HAND[row["last_step"]])


CARRIED = ("mup.batch_tokens_base=64", "mup.duration_tokens_base=1664", "stages.stable.batch=null")  # r = 4 ÷ 2


def test_values_found_at_another_batch_and_duration_are_carried_over() -> None:
    plain, carried = (mup_rows(recipe(*overrides)) for overrides in (CARRIED[-1:], CARRIED))
    for role, row in carried.items():
        was = plain[role]
        for key, factor in (("lr", 2**0.5), ("weight_decay", 2**0.5), ("eps", 0.5**0.5)):
            assert row[key] == pytest.approx(was[key] * factor), (role, key)
        assert row["betas"] == pytest.approx((0.8, 0.9))
        assert was["betas"] == (0.9, 0.95)


def test_the_duration_may_be_written() -> None:
    rows = mup_rows(recipe(*CARRIED, "mup.duration_tokens=6656"))
    assert rows["bias"]["step_mult"] == 1


def test_what_older_runs_wrote_compares_equal() -> None:
    """A key of today that says nothing isn't in a run's identity, so that a run from before it goes on."""
    identity = resolve(load_recipe("demo"), world_size=1).identity()
    assert "tokens_base" not in identity["mup"]
    assert "rewarm" not in identity["stages"]


@pytest.mark.slow
def test_a_run_steps_by_them(home: Path) -> None:
    """The live optimizer: lr of each step as by hand, times the table's √r; the audit after the first step passed."""
    run = prepared(home, "repeated", processes=2, overrides=[STAGES, *CARRIED, "parallel.zero=1"])
    finish(run, processes=2)
    resolved = load_resolved(run)
    rows: list[dict[str, Any]] = list(read_jsonl(run.metrics))
    schedule = schedule_of(resolved)
    assert [row["tokens"] for row in rows] == list(range(256, 3329, 256))
    assert [row["lr"] for row in rows] == pytest.approx([0.01 * schedule.lr_mult_at(row["tokens"]) for row in rows])
    assert [row["lr"] for row in rows][-7:] == pytest.approx([0.01 * m for m in BY_HAND[-7:]])
    table = mup_rows(resolved.config)
    for role, lr in rows[1]["lr_by_role"].items():  # the warmup has ended
        assert lr == pytest.approx(table[role]["lr"])
    assert [event["event"] for event in read_jsonl(run.events)].count("audit") == 1
