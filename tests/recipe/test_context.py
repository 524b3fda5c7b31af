"""Context extension by recipe: later stages have longer sequences and another rotary base, after one with a batch ramp."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from recipe.branch import create_branch
from recipe.errors import ConfigError
from recipe.evaluate.checkpoints import find_checkpoint
from recipe.load import load_recipe
from recipe.prepare import load_resolved
from recipe.resolve import resolve
from recipe.rundir import RunDir, read_json, read_jsonl, write_json
from tests.recipe.runs import finish, kill, prepared, start, trace
from tests.recipe.test_stream import folders  # noqa: F401 - a fixture

STAGES = [
    "stages=[{name: stable, tokens: 2048, mixture: {text: 100}, batch: {from_tokens: 128, to_tokens: 256, over_tokens: 512}}, "
    "{name: long, tokens: 1024, mixture: {text: 100}, seq_length_tokens: 64, rope_base: 50000}, "
    "{name: decay, tokens: 512, mixture: {text: 100}, lr: {shape: linear}, seq_length_tokens: 64, rope_base: 50000}]",
    "model.rope_base=500", "checkpoint.every_tokens=256", "checkpoint.keep_last=20",
]  # fmt: skip


def stages(*, longer: int, **keys: object) -> list[str]:
    return [f"stages.decay.seq_length_tokens={longer}", *(f"{key}={value}" for key, value in keys.items())]


def test_the_order_of_the_text_does_not_depend_on_where_lengths_change(folders: dict[str, str]) -> None:  # noqa: F811
    from recipe.stream import Ledger, SampleStream, open_streams

    weights = {"a": 70.0, "b": 30.0}

    def drawn(*plan: tuple[str, int, int], ledger: Ledger) -> list[list[int]]:
        """Tokens of `(stage, sequence length, batches of 64 tokens)`, by batch; the source and the text of each sample."""
        samples = SampleStream(open_streams(folders, block_tokens=32, seed=3), ledger=ledger)
        rows = []
        for stage, length, batches in plan:
            samples.enter(stage, weights, seq_length_tokens=length)
            for _ in range(batches):
                tokens, mask = samples.read(samples.draw(64 // length))
                assert tokens.shape == (64 // length, length + 1)
                assert mask.shape == (64 // length, length)
                rows.append(tokens[:, :-1].ravel().tolist())
        return rows

    whole = drawn(("stable", 32, 9), ("long", 32, 12), ledger=Ledger())
    assert drawn(("stable", 8, 9), ("long", 32, 12), ledger=Ledger()) == whole
    assert drawn(("stable", 16, 9), ("long", 8, 12), ledger=Ledger()) == whole
    ledger = Ledger()
    before = drawn(("stable", 8, 9), ("long", 32, 5), ledger=ledger)
    assert before + drawn(("long", 32, 7), ledger=Ledger(ledger.state())) == whole


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (stages(longer=384), "model.seq_length_tokens=256 does not divide the longest sequence, 384"),
        (stages(longer=16384), r"stages.stable.batch=8192 .* in whole blocks of the longest sequence, 16384"),
        (stages(longer=512, **{"batch.micro_seqs": 32, "stages.stable.batch": "null"}), "in stage decay .* nearest: 32768"),
        (stages(longer=0), "stages.1.seq_length_tokens"),
        (["stages.decay.rope_base=1"], "stages.1.rope_base"),
        (stages(longer=512, **{"parallel.cp": 2, "stages.stable.seq_length_tokens": 2}), "stages.stable.seq_length_tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_exact_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(load_recipe("demo", overrides), world_size=2)


def test_steps_and_tokens_follow_each_stages_length() -> None:
    plain = resolve(load_recipe("demo"), world_size=1)
    longer = resolve(load_recipe("demo", [*stages(longer=1024), "stages.decay.rope_base=1e6"]), world_size=1)
    assert [(one.start_step, one.end_step, one.end_tokens) for one in longer.stages] == [
        (one.start_step, one.end_step, one.end_tokens) for one in plain.stages
    ]
    assert (longer.batch_seqs_at(0), longer.batch_seqs_at(longer.num_steps - 1)) == (32, 16)
    assert [longer.tokens_before(step) for step in range(longer.num_steps)] == [
        plain.tokens_before(step) for step in range(plain.num_steps)
    ]
    decay = longer.config.model_at("decay")
    assert (decay.seq_length_tokens, decay.rope_base) == (1024, 1e6)
    assert longer.config.model_at("stable") == plain.config.model
    assert longer.identity() == plain.identity() | {"longest_sequence": "1024", "stages": longer.identity()["stages"]}


def test_the_planner_holds_the_longest_and_prices_each_stage_at_its_length() -> None:
    from launch.plan.answer import default_calibration, problem_of
    from launch.plan.recipe import Prices, stage_costs
    from launch.plan.search import search
    from launch.tune.trial import trial_config

    long = load_recipe("xmodel2-1.2b", ["stages.decay.seq_length_tokens=16384", "parallel={zero: 1}"])
    plain, longer = (
        problem_of(config, gpu="h100-sxm", num_gpus=8, engine="windtunnel") for config in (load_recipe("xmodel2-1.2b"), long)
    )
    assert longer.shape == replace(plain.shape, seq_tokens=16384)
    candidate = search(longer, default_calibration()).best
    costs = stage_costs(candidate, longer, long, default_calibration(), Prices())
    stable, decay = (costs[name]["days"] / costs[name]["tokens"] for name in ("stable", "decay"))
    assert 1.05 * stable < decay < 2 * stable  # attention costs more, and nothing else does
    trial = trial_config(long, candidate)
    assert {trial.model_at(stage.name).seq_length_tokens for stage in trial.stages} == {16384}


def test_a_branch_cannot_be_longer_than_its_run_named(home: Path) -> None:
    run = prepared(home, "context-branch", processes=1, overrides=STAGES)
    write_json(run.checkpoint("stable", 1024) / "manifest.json", {})
    config = load_resolved(run).config
    stages = [stage.model_copy(update={"seq_length_tokens": 128}) for stage in config.stages[1:]]
    longer = config.model_copy(update={"stages": [config.stages[0], *stages]})
    with pytest.raises(ConfigError, match="longest sequence is 128 tokens, and the run drew its text in blocks of 64"):
        create_branch(run, longer, at_tokens=1024, name="longer", world_size=1, data_dir=home / "data")
    assert not run.branches.exists()


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> RunDir:
    run = prepared(home, "context", processes=1, overrides=STAGES)
    finish(run, processes=1)
    return run


@pytest.mark.slow
def test_a_longer_stage_is_trained_at_its_length_and_base(undisturbed: RunDir) -> None:
    import torch

    from recipe.checkpoint.reader import CheckpointReader
    from recipe.evaluate.heldout import heldout_sets
    from recipe.evaluate.live import run_logits, token_nats
    from recipe.export.hf import export_hf

    resolved = load_resolved(undisturbed)
    rows = read_jsonl(undisturbed.metrics)
    assert {(row["stage"], row["batch_seqs"]) for row in rows} == {("stable", 4), ("stable", 8), ("long", 4), ("decay", 4)}
    assert [row["tokens"] for row in rows] == [resolved.tokens_before(step + 1) for step in range(resolved.num_steps)]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.3
    text = heldout_sets(resolved)["text"]
    for stage in resolved.stages:  # the model in training and one that is built with the stage's base are one
        found = read_json(undisturbed.heldout(stage.name, stage.end_tokens))["sources"]["text"]["loss_nats"]
        folder = undisturbed.checkpoint(stage.name, stage.end_tokens)
        logits = run_logits(undisturbed, folder, vocab_size=400)
        assert float(token_nats(logits, text).mean()) == pytest.approx(found, rel=1e-5)
        torch.distributed.barrier()
    export = undisturbed.root / "hf"
    export_hf(CheckpointReader(find_checkpoint(undisturbed)), undisturbed, export)  # compares logits at the longest
    config = read_json(export / "config.json")
    assert (config["max_position_embeddings"], config["rope_theta"]) == (64, 50000)


@pytest.mark.slow
def test_sigkills_in_either_stage_change_nothing(home: Path, undisturbed: RunDir) -> None:
    whole, run = (prepared(home, name, processes=2, overrides=STAGES) for name in ("context-2", "context-killed"))
    finish(whole, processes=2)
    for ours, theirs in zip(trace(whole), trace(undisturbed), strict=True):
        assert ours[1] == pytest.approx(theirs[1], rel=1e-5)
    for attempt, steps in ((1, 5), (2, 13)):  # the long stage has steps 10 to 13
        process, deadline = start(run, processes=2, attempt=attempt), time.monotonic() + 200
        while len(read_jsonl(run.metrics)) < steps and time.monotonic() < deadline:
            time.sleep(0.01)
        kill(process)
        assert load_resolved(run).num_steps > len(trace(run)) >= steps
    finish(run, processes=2, attempt=3)
    assert trace(run) == trace(whole)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["{tp: 2, sp: true}", "{pp: 2, zero: 2}", "{cp: 2}", "{zero: 3}"])
def test_every_layout_agrees(home: Path, undisturbed: RunDir, parallel: str) -> None:
    name = "context-" + "".join(letter for letter in parallel if letter.isalnum())
    run = prepared(home, name, processes=2, overrides=[*STAGES, f"parallel={parallel}"])
    finish(run, processes=2)
    for ours, theirs in zip(trace(run), trace(undisturbed), strict=True):
        assert ours[1] == pytest.approx(theirs[1], rel=1e-5)
