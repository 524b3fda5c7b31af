"""`windtunnel stages`: wanted and at hand, epochs, the ledger of a run, the rings."""

import json
from pathlib import Path

import pytest
import yaml

from launch.cli import main
from recipe.prepare import create_run
from recipe.rundir import RunDir, write_json
from tests.launch.slurm.smallest import smallest_recipe, write_corpus


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDir:
    folder = tmp_path_factory.mktemp("stages")
    recipe = smallest_recipe(write_corpus(folder / "code.jsonl"))
    (folder / "smallest.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return create_run(recipe, folder / "run", world_size=1, data_dir=folder / "data")


def shown(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(["stages", *arguments])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_wanted_at_hand_and_epochs(run, capsys):
    folder = run.root.parent
    rows = json.loads(shown(capsys, str(folder / "smallest.yaml"), "--data-dir", str(folder / "data"), "--json"))
    stable, decay = rows
    assert (stable["stage"], stable["source"], stable["wanted_tokens"]) == ("stable", "code", 1024 * 50)
    assert stable["at_hand_documents"] > 100
    assert stable["epochs"] == pytest.approx(1024 * 50 / stable["at_hand_tokens"])
    assert decay["epochs_so_far"] == pytest.approx(1024 * 60 / stable["at_hand_tokens"])  # the source goes on


def test_a_runs_ledger(run, capsys):
    assert "no checkpoint yet" in shown(capsys, str(run.root))
    folder = run.checkpoint("stable", 20480)
    write_json(folder / "manifest.json", {})
    write_json(folder / "state.json", {"ledger": {"drawn": {"code": 320}}})
    rows = json.loads(shown(capsys, str(run.root), "--json"))
    assert [row["drawn_tokens"] for row in rows] == [320 * 64] * 2


def test_longer_sequences_are_told(capsys, tmp_path):
    longer = ["-o", "stages.decay.seq_length_tokens=16384", "-o", "stages.decay.rope_base=1e6"]
    told = shown(capsys, "xmodel2-1.2b", "--data-dir", str(tmp_path / "none"), *longer)
    assert "decay: sequences of 16384 tokens, rotary base 1e+06" in told


def test_rings_of_a_preset_without_its_data(capsys, tmp_path):
    picture = tmp_path / "rings.png"
    told = shown(capsys, "xmodel2-1.2b", "--data-dir", str(tmp_path / "none"), "--rings", str(picture))
    assert "sft_math" in told
    assert "22.4" in told
    assert Path(picture).stat().st_size > 10_000
