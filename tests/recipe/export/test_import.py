"""Foreign checkpoints as a run's beginning: the same bits inside, trained on from, refused by name where they don't fit."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from recipe.checkpoint.reader import CheckpointReader
from recipe.errors import CheckpointError
from recipe.evaluate.checkpoints import find_checkpoint
from recipe.export.from_hf import open_huggingface
from recipe.export.import_hf import MAX_FILE_BYTES, STAGE, check_tensors, check_tokenizer, write_imported
from recipe.load import load_recipe
from recipe.prepare import create_run
from recipe.rundir import RunDir, read_jsonl
from tests.recipe.export.test_export import RECIPE, run_command, trained  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def minicpm(trained: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    out = tmp_path_factory.mktemp("minicpm") / "cpm"
    done = run_command("export", str(trained.root), "--format", "minicpm", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def recipe(trained: RunDir, tmp_path: Path) -> Path:  # noqa: F811
    path = tmp_path / "more.yaml"
    path.write_text(json.dumps(RECIPE | {"name": "more", "optim": {"peak_lr": 1e-4}}))
    return path


def run_import(checkpoint: Path, recipe: Path, trained: RunDir, *options: str):  # noqa: F811
    data = str(trained.root.parent / "data")
    where = ("--run-dir", str(recipe.with_name("run")), "--data-dir", data, "--processes", "1")
    return run_command("import", str(checkpoint), "--recipe", str(recipe), *where, *options)


def test_minicpm_comes_back_bit_for_bit_and_trains_on(minicpm: Path, recipe: Path, trained: RunDir) -> None:  # noqa: F811
    done = run_import(minicpm, recipe, trained)
    assert done.returncode == 0, done.stderr
    run = RunDir(recipe.with_name("run"))
    ours, theirs = CheckpointReader(find_checkpoint(run), verify=True), CheckpointReader(find_checkpoint(trained))
    assert find_checkpoint(run).name == f"{STAGE}-{0:015d}"
    assert ours.parameters == theirs.parameters  # shapes, and how tensor parallelism cuts them
    assert all(torch.equal(ours.tensor(name), theirs.tensor(name)) for name in theirs.names())
    assert not any(ours.tensor(name, "exp_avg_sq").any() for name in ours.names())
    assert run_command("resume", str(run.root)).returncode == 0
    steps, before = read_jsonl(run.metrics), read_jsonl(trained.metrics)
    assert steps[0]["step"] == 0
    assert steps[0]["loss"] < before[0]["loss"] - 0.3  # it starts where the checkpoint stood, not anew
    assert [row["step"] for row in steps] == [row["step"] for row in before]


def plain_llama(folder: Path, *, vocab_size: int = 400, **shape: int) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4} | shape
    rest = {"num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": False}
    LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **rest, **size)).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_llama_is_adopted_and_exported_again_with_the_same_bits(
    recipe: Path, trained: RunDir, tmp_path: Path  # noqa: F811
) -> None:
    from safetensors.torch import load_file

    llama = plain_llama(tmp_path / "llama", num_hidden_layers=3)
    done = run_import(llama, recipe, trained, "--adopt")
    assert done.returncode == 0, done.stderr
    assert "mup.parametrization: minicpm → standard, from the checkpoint" in done.stderr
    run = recipe.with_name("run")
    assert run_command("export", str(run), "--dtype", "bf16").returncode == 0
    first, second = load_file(llama / "model.safetensors"), load_file(run / "export" / "hf" / "model.safetensors")
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_model_is_refused_with_every_difference(recipe: Path, trained: RunDir, tmp_path: Path) -> None:  # noqa: F811
    done = run_import(plain_llama(tmp_path / "llama", num_hidden_layers=3), recipe, trained)
    assert done.returncode == 2
    for words in ("model.num_layers: 2 → 3", "model.tied: True → False", "-o model.num_layers=3", "--adopt"):
        assert words in done.stderr
    assert not recipe.with_name("run").exists()


def test_another_tokenizer_is_refused(minicpm: Path, recipe: Path, trained: RunDir, tmp_path: Path) -> None:  # noqa: F811
    other, config = tmp_path / "other", load_recipe(str(recipe))
    shutil.copytree(minicpm, other)
    check_tokenizer(config, other, data_dir=trained.root.parent / "data")
    with (other / "tokenizer.model").open("ab") as file:
        file.write(b"\x12\x00")  # an empty trainer spec more: another file, the same pieces
    with pytest.raises(CheckpointError, match="every id would mean something else"):
        check_tokenizer(config, other, data_dir=trained.root.parent / "data")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.layers.1.mlp.up_proj.weight": None}, "the first is model.layers.1.mlp.up_proj.weight"),
        ({"extra": torch.zeros(1)}, "the first is extra"),
        ({"model.norm.weight": torch.ones(7)}, r"model.norm.weight \(7,\)"),
        ({"model.norm.weight": torch.full((32,), torch.nan)}, "model.norm.weight: holds values that aren't finite"),
    ],
)
def test_partial_and_damaged_checkpoints_are_refused_by_name(minicpm: Path, tmp_path: Path, changes: dict, said: str) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(minicpm, broken)
    held = {**load_file(minicpm / "model.safetensors"), **changes}
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, broken / "model.safetensors")
    with pytest.raises(CheckpointError, match=said):
        check_tensors(open_huggingface(broken))


def test_large_checkpoints_are_written_in_several_files(
    minicpm: Path, recipe: Path, trained: RunDir, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    assert MAX_FILE_BYTES == 4 * 2**30
    monkeypatch.setattr("recipe.export.import_hf.MAX_FILE_BYTES", 100_000)
    run = create_run(load_recipe(str(recipe)), recipe.with_name("run"), world_size=1, data_dir=trained.root.parent / "data")
    reader = open_huggingface(minicpm)
    folder = write_imported(reader, run)
    assert len(list(folder.glob("*.safetensors"))) > 2
    ours = CheckpointReader(folder, verify=True)
    assert all(torch.equal(ours.tensor(name), reader.tensor(name)) for name in reader.names())
