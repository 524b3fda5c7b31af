"""What a person sees who gives bad input: one message that names what and where, exit code 2, no traceback."""

import argparse
import json
from pathlib import Path

import pytest

from launch.cli import main
from launch.errors import exit_code_of
from recipe.errors import CheckFailed, ConfigError

RECIPE = """
extends: demo
model:
  {num_layers: 2, hidden_size: 32, ffn_hidden_size: 64, num_heads: 4, num_kv_heads: 2, seq_length_tokens: 32, vocab_size: 400}
tokenizer: {train_on: {text: 1}, train_bytes: 50KB}
sources: {text: {path: FILE, heldout_frac: 0.1}}
stages: [{name: stable, tokens: 2048, mixture: {text: 100}}]
batch: {global_tokens: 256, micro_seqs: 2}
"""


def run(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    words = Path(argparse.__file__).read_text().split("\n\n")
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": word * 3}) + "\n" for word in words if word.strip()))
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.replace("FILE", str(tmp_path / "text.jsonl")))
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "dem"], ["dem", "did you mean demo?"]),
        (["show", "demo", "-o", "parallel.tpp=2"], ["parallel.tpp", "did you mean tp?"]),
        (["show", "demo", "--as", "sql"], ["resolved"]),
        (["train", "demo", "-o", "parallel.tp=3"], ["parallel.tp=3", "model.num_heads=4"]),
        (["train", "nano"], ["stages", "none"]),
        (["resume", "nowhere"], ["nowhere", "no run directory"]),
        (["verify", "nowhere"], ["nowhere"]),
        (["report", "nowhere"], ["nowhere"]),
        (["plan", "8b", "--gpus", "8", "--gpu", "h1000"], ["h1000"]),
        (["submit", "demo", "--cluster", "nowhere", "--dry-run"], ["nowhere"]),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_bad_input(capsys, tmp_path: Path, monkeypatch, arguments: list[str], words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "Traceback" not in err
    assert all(word in err for word in words)
    assert not list(tmp_path.iterdir()), "bad input left something behind"


def test_a_missing_corpus_is_named(capsys, recipe: Path) -> None:
    code, _, err = run(capsys, "tokenize", str(recipe), "-o", "sources.text.path=gone/*.jsonl")
    assert (code, "gone/*.jsonl" in err, "Traceback" in err) == (2, True, False)


def test_a_sequence_longer_than_the_data_is_refused(capsys, recipe: Path) -> None:
    longer = ["-o", "model.seq_length_tokens=1048576", "-o", "batch.global_tokens=4194304", "-o", "stages.0.tokens=4194304"]
    code, _, err = run(capsys, "train", str(recipe), *longer)
    assert (code, "fewer than one sequence" in err) == (2, True)
    assert not (Path("runs") / "mine" / "config").exists()


def test_a_shard_cut_short_is_found(capsys, recipe: Path) -> None:
    code, _, _ = run(capsys, "tokenize", str(recipe))
    assert code == 0
    assert run(capsys, "verify", "data")[0] == 0
    shard = next(Path("data").glob("text/*/train/*.bin"))
    shard.write_bytes(shard.read_bytes()[:-100])
    code, out, err = run(capsys, "verify", "data")
    assert code == 1
    assert shard.name in out + err or shard.stem in out + err


def test_a_tokenizer_of_another_size_is_refused(capsys, recipe: Path) -> None:
    run(capsys, "tokenizer", str(recipe))
    model = next(Path("data/tokenizers").glob("*/tokenizer.model"))
    code, _, err = run(
        capsys, "tokenize", str(recipe), "-o", "model.vocab_size=350", "-o", f"tokenizer={{kind: file, path: {model}}}"
    )
    assert (code, "400 ids" in err) == (2, True)


def test_help_lists_every_command(capsys) -> None:
    from launch.cli import COMMANDS

    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for _, name, _ in COMMANDS)


def test_exit_codes_of_typed_errors() -> None:
    assert [exit_code_of(error) for error in (ConfigError(""), CheckFailed(""), ValueError())] == [2, 1, None]
