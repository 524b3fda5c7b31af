"""Recipes: what is refused, and in which words."""

import json
import os
from pathlib import Path

import pytest

from recipe.errors import ConfigError
from recipe.load import load_recipe, preset_names
from recipe.lower import deepspeed_config, mup_of, mup_rows, schedule_of, transformer_arguments
from recipe.resolve import padded_vocab_size, resolve
from recipe.size import model_size

BAD = [
    (["parallel.tpp=2"], "parallel.tpp: unknown key; did you mean tp?"),
    (["optim.peak_lr=fast"], "optim.peak_lr='fast'"),
    (["stages.stable.tokens=many"], "stages.0.tokens='many'"),
    (["stages.stable.mixture={}"], "mixture is empty"),
    (["stages.stable.mixture={code: 50}"], "mixture sums to 50, not 100"),
    (["stages.stable.mixture={cod: 100}"], "did you mean code?"),
    (["tokenizer.train_on={math: 0}"], "train_on shares must be above 0"),
    (["tokenizer.vocab_size=5000"], "tokenizer.vocab_size=5000 differs from model.vocab_size"),
    (["tokenizer.kind=file"], "path is missing"),
    (["model.num_heads=3"], "not a multiple of num_heads=3"),
    (["model.num_kv_heads=3"], "not a multiple of num_kv_heads=3"),
    (["stages.decay.lr={shape: half_life}"], "half_life_tokens goes with shape half_life"),
    (["stages.decay.lr={shape: hold, rewarm_tokens: 1}"], "leave one of the two out"),
    (["stages.decay.lr={shape: hold, floor_frac: 0.1}"], "floor_frac=0.1 goes with a decay"),
    (["stages.decay.lr={rewarm_tokens: 600K}"], "rewarm_tokens=600000 is longer than the stage's tokens=500000"),
    (["stages.stable.lr={shape: hold}"], "stages.stable.lr: hold and rewarm_tokens go on from a stage before"),
    (["mup.batch_tokens_base=8192"], "batch_tokens_base and duration_tokens_base go together"),
    (["mup.duration_tokens=1M"], "duration_tokens goes with"),
    (["mup={batch_tokens_base: 8192, duration_tokens_base: 1M}"], "the batch grows from 8192 to 16384"),
    (["mup={batch_tokens_base: 8192, duration_tokens_base: 1M}", "stages=[]"], "write mup.duration_tokens"),
    (["mup={batch_tokens_base: 1024, duration_tokens_base: 2.1M}", "stages.stable.batch=null"], "no memory"),
    (["parallel.tp=3"], "parallel.tp=3 does not divide model.num_heads=4"),
    (["parallel.tp=8"], "parallel.tp=8 does not divide"),
    (["parallel.pp=3"], "does not divide"),
    (["parallel.sp=true"], "parallel.sp=true needs parallel.tp above 1"),
    (["parallel.vp=2"], "parallel.vp=2 needs parallel.pp above 1"),
    (["parallel.zero=3", "parallel.pp=2"], "would hang"),
    (["parallel.zero=4"], "parallel.zero"),
    (["batch.global_tokens=1000"], "must be batch.global_tokens=1000"),
    (["stages.nowhere.tokens=1"], "no item nowhere"),
    (["stages"], "write it as key.path=value"),
    (["optim.peak_lr=.nan"], "optim.peak_lr"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_what_cannot_hold_is_named(overrides: list[str], message: str) -> None:
    world_size = 4
    with pytest.raises(ConfigError) as caught:
        resolve(load_recipe("demo", overrides), world_size=world_size)
    assert message in str(caught.value)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean demo"):
        load_recipe("dem")


def test_a_folder_of_a_preset_s_name_does_not_hide_it(tmp_path, monkeypatch) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe("demo").name == "demo"
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="mine: neither a recipe file nor a preset"):
        load_recipe("mine")


def test_yaml_that_says_a_key_twice_is_refused(tmp_path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("extends: demo\nseed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match="line 3: the key 'seed' stands twice"):
        load_recipe(str(path))


def test_a_recipe_that_extends_itself_is_refused(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_recipe(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_lowers(name: str) -> None:
    config = load_recipe(name)
    parallel = config.parallel
    resolved = resolve(config, world_size=8 * parallel.tp * parallel.pp * parallel.cp)
    assert transformer_arguments(resolved)["num_layers"] == config.model.num_layers
    assert "scheduler" not in deepspeed_config(resolved)
    assert mup_of(config).width == config.model.hidden_size


def test_the_report_s_model_has_the_report_s_figures() -> None:
    config = load_recipe("xmodel2-1.2b")
    size = model_size(config.model)
    assert (size.num_non_embedding, size.num_embedding) == (1_151_485_440, 100_270_080)
    resolved = resolve(config, world_size=8)
    stable, decay = resolved.stages
    assert [segment.batch_seqs for segment in stable.segments] == [480, 960]
    schedule = schedule_of(resolved)
    half_life_tokens = 5000 * 960 * 4096
    assert schedule.lr_mult_at(decay.start_tokens) == 1.0
    assert schedule.lr_mult_at(decay.start_tokens + half_life_tokens) == pytest.approx(0.5, rel=1e-12)
    assert sum(w for name, w in config.stages[1].mixture.items() if name.startswith("sft_")) == pytest.approx(63.9)


def test_vocabulary_padding() -> None:
    assert [padded_vocab_size(65280, tp=tp) for tp in (1, 2, 4, 8)] == [65280, 65280, 65536, 65536]


def test_tokens_are_the_clock_under_a_ramp() -> None:
    resolved = resolve(load_recipe("demo"), world_size=1)
    first, second = resolved.stages[0].segments
    assert (first.batch_seqs, second.batch_seqs) == (32, 64)
    assert resolved.tokens_before(first.num_steps) == first.num_steps * 32 * 256
    assert resolved.tokens_before(first.num_steps + 3) == first.num_steps * 32 * 256 + 3 * 64 * 256
    assert resolved.tokens_before(resolved.num_steps) == resolved.total_tokens
    assert resolved.stages[1].start_tokens == resolved.stages[0].end_tokens >= 1_600_000


def lowered(name: str) -> str:
    config = load_recipe(name)
    parallel = config.parallel
    resolved = resolve(config, world_size=8 * parallel.tp * parallel.pp * parallel.cp)
    views = {
        "resolved": resolved.model_dump(mode="json", exclude={"config"}),
        "transformer": transformer_arguments(resolved),
        "deepspeed": deepspeed_config(resolved),
        "mup": mup_rows(config),
    }
    return json.dumps(views, indent=1) + "\n"


@pytest.mark.parametrize("name", preset_names())
def test_lowered_presets_are_as_kept(name: str) -> None:
    """What a preset becomes changes only on purpose: WRITE_GOLDEN=1 writes the files anew, for review in the diff."""
    golden = Path(__file__).parent / "golden" / f"{name}.json"
    if os.environ.get("WRITE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(lowered(name))
    assert lowered(name) == golden.read_text()
