"""A real run, trained for a few steps, exported in every form and read back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recipe.config import RunConfig
from recipe.errors import CheckpointError, RunError
from recipe.evaluate.checkpoints import find_checkpoint
from recipe.prepare import create_run
from recipe.rundir import RunDir, read_json

RECIPE = {
    "name": "small",
    "model": {
        "num_layers": 2, "hidden_size": 32, "ffn_hidden_size": 64, "num_heads": 4, "num_kv_heads": 2, "seq_length_tokens": 32,
        "vocab_size": 400,
    },
    "mup": {"dim_model_base": 16},
    "tokenizer": {"train_bytes": 400_000},
    "sources": {"code": {"kind": "text", "path": f"{Path(json.__file__).parent.parent}/email/*.py", "heldout_frac": 0.3}},
    "stages": [{"name": "stable", "tokens": 2048, "mixture": {"code": 100}}],
    "optim": {"peak_lr": 0.02},
    "batch": {"global_tokens": 512, "micro_seqs": 4},
    "precision": "fp32",
}
COMMAND = [sys.executable, "-m", "launch.cli"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def run_command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=ENVIRONMENT, timeout=240, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    root = tmp_path_factory.mktemp("trained")
    run = create_run(RunConfig.model_validate(RECIPE), root / "run", world_size=1, data_dir=root / "data")
    run.attempt(1).mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-m", "recipe.train", str(run.root)], env=ENVIRONMENT, check=True, capture_output=True, timeout=240
    )
    return run


def test_hf_export_says_how_faithful_it_is(trained: RunDir) -> None:
    done = run_command("export", str(trained.root), "--json", "--shard", "20KiB")
    assert done.returncode == 0, done.stderr
    folder = trained.export / "hf"
    check = read_json(folder / "export.json")["check"]
    assert check["relative"] < 1e-5
    assert abs(check["bf16_cost_nats"]) < 0.05
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert "LlamaForCausalLM" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_plain_transformers_generates_from_it(trained: RunDir, tmp_path: Path) -> None:
    assert run_command("export", str(trained.root), "--out", str(tmp_path / "hf"), "--dtype", "bf16").returncode == 0
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert model.dtype == torch.bfloat16
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    inputs = tokenizer("import ", return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=5, do_sample=False).shape[1] == inputs["input_ids"].shape[1] + 5


def test_minicpm_round_trip_is_bit_identical(trained: RunDir, tmp_path: Path) -> None:
    from recipe.checkpoint.reader import CheckpointReader
    from recipe.export.from_hf import open_huggingface

    assert run_command("export", str(trained.root), "--format", "minicpm", "--out", str(tmp_path / "cpm")).returncode == 0
    back, ours = open_huggingface(tmp_path / "cpm"), CheckpointReader(find_checkpoint(trained))
    assert set(back.names()) == set(ours.names())
    assert all(torch.equal(back.tensor(name), ours.tensor(name)) for name in ours.names())
    assert (back.mup.scale_emb, back.mup.scale_depth, back.mup.dim_model_base) == (12.0, 1.4, 16)


@pytest.mark.slow
def test_plain_megatron_loads_the_torch_dist_form(trained: RunDir, tmp_path: Path) -> None:
    done = run_command("export", str(trained.root), "--format", "megatron", "--out", str(tmp_path / "mcore"), "--json")
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "mcore" / "export.json")["check"]["relative"] < 1e-5


def test_llama_round_trip_is_bit_identical(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from recipe.export.fold import Factors
    from recipe.export.from_hf import open_huggingface
    from recipe.export.source import llama_tensors

    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "vocab_size": 60}
    llama = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=2))
    llama.save_pretrained(tmp_path / "llama", max_shard_size="8KB")
    reader = open_huggingface(tmp_path / "llama")
    back = dict(llama_tensors(reader, reader.model, Factors()))
    assert set(back) == set(llama.state_dict())
    assert all(torch.equal(back[name], tensor) for name, tensor in llama.state_dict().items())

    shard = sorted((tmp_path / "llama").glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=shard.name):
        open_huggingface(tmp_path / "llama")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "model_type='gpt2'"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling"),
        ({"num_hidden_layers": 3}, r"9 tensors are missing, the first is model.layers.2"),
        ({"num_hidden_layers": 1}, r"9 tensors that a Llama lacks"),
    ],
)
def test_foreign_checkpoints_that_do_not_fit_are_refused(tmp_path: Path, change: dict, said: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from recipe.export.from_hf import open_huggingface

    shape = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 20, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(tmp_path)
    config = read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=said):
        open_huggingface(tmp_path)


def test_bad_requests_end_with_code_2_and_one_line(trained: RunDir, tmp_path: Path) -> None:
    for arguments, said in (
        (("export", str(trained.root), "--format", "gguf"), "hf, minicpm, megatron"),
        (("export", str(trained.root), "--checkpoint", "none-1"), "stable-000000000002048"),
        (("eval", str(tmp_path)), "no run directory"),
    ):
        done = run_command(*arguments)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_evaluation_and_continuation_of_the_live_model(trained: RunDir) -> None:
    done = run_command("eval", str(trained.root), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["sources"]["code"]
    assert set(result["baselines"]) == {"unigram", "bigram", "trigram"}
    assert 1 < result["loss_nats"] < 6.1
    assert list(trained.eval.glob("samples-stable-*.json"))
    said = run_command("generate", str(trained.root), "--prompt", "import ", "--tokens", "5")
    assert said.returncode == 0
    assert said.stdout.startswith("import ")


def test_a_run_without_checkpoints_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no whole checkpoint"):
        find_checkpoint(RunDir(tmp_path))
