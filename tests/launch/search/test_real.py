"""Real trials, of the smallest model: a whole sweep by the command line; a trial against the same run by `windtunnel train`;
the sixth known answer, two sources with disjoint vocabularies."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_prep.indexed import IndexedWriter, bin_path, idx_path
from data_prep.manifest import Manifest
from launch.search.folder import Study
from launch.search.mix.study import MixSpec, MixStudy
from launch.search.setup import at_hand_tokens, conducting, make_study
from recipe.config import RunConfig
from tests.launch.slurm.smallest import smallest_recipe, write_corpus
from tests.recipe.evaluate.fixtures import write_datasets

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def windtunnel(*arguments: str, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", "-m", "launch.cli", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def write_recipe(folder: Path, **options) -> RunConfig:
    recipe = smallest_recipe(write_corpus(folder / "code.jsonl"), **options)
    (folder / "smallest.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return recipe


@pytest.mark.slow
def test_a_whole_sweep_from_the_command_line(tmp_path):
    write_recipe(tmp_path, num_steps=12)
    arguments = [
        "sweep", "smallest.yaml", "--search", "peak_lr=0.002:0.05:log", "--search", "scale_depth=1:5", "--trials", "4",
        "--seeds", "2", "--finalists", "1", "--prune", "0.5", "--out", "study",
    ]  # fmt: skip
    first = windtunnel(*arguments, cwd=tmp_path)
    study, until = Study(tmp_path / "study"), time.monotonic() + 120
    while not study.result(2).is_file():
        assert first.poll() is None, first.communicate()[1][-2000:]
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    before = {number: one.model_dump_json() for number, one in study.results().items()}
    again = windtunnel(*arguments, cwd=tmp_path)
    shown, told = again.communicate(timeout=300)
    assert again.returncode == 0, told[-2000:]
    results = study.results()
    assert {number: results[number].model_dump_json() for number in before} == before
    assert len(results) == 10  # the recipe, four points, an anchor, a finalist; two seeds of each but the points
    assert all(one.status == "done" for one in results.values())
    assert max(one.start_s for one in results.values()) < 20  # imports aren't part of a trial's start
    assert shown.strip() in study.readme.read_text()
    explored = [one for one in results.values() if one.trial.label == "explore"]
    assert all(one.rung is not None for one in explored)
    assert sum(one.rung - one.loss for one in explored) > 0  # half the tokens: a worse model


@pytest.mark.slow
def test_a_trial_is_the_run_that_train_would_make(tmp_path):
    write_recipe(tmp_path, num_steps=24)
    trained = windtunnel("train", "smallest.yaml", "--processes", "1", "--run-dir", "run", cwd=tmp_path)
    trained.communicate(timeout=300)
    assert trained.returncode == 0
    write_datasets(tmp_path / "eval-data")
    sweep = windtunnel(
        "sweep", "smallest.yaml", "--search", "peak_lr=0.002:0.05:log", "--trials", "1", "--seeds", "2", "--finalists", "1",
        "--weight", "code=1", "--weight", "hellaswag:bits=2", "--weight", "hellaswag:error=1", "--out", "study", cwd=tmp_path,
    )  # fmt: skip
    _, told = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, told[-2000:]
    ours = Study(tmp_path / "study").results()[0]
    (file,) = (tmp_path / "run" / "eval").glob("heldout-decay-*.json")
    theirs = json.loads(file.read_text())["sources"]["code"]["loss_nats"]
    assert ours.losses["code"] == pytest.approx(theirs, abs=1e-5)
    scored = windtunnel("eval", "run", "--tasks", "hellaswag", "--no-heldout", "--json", cwd=tmp_path)
    shown, told = scored.communicate(timeout=300)
    assert scored.returncode == 0, told[-2000:]
    assert ours.losses["hellaswag:error"] == pytest.approx(1 - json.loads(shown)["tasks"]["hellaswag"]["value"])
    bits = ours.losses["hellaswag:bits"]
    assert 0.5 < bits < 8  # a byte has 8; the model has learnt something of English
    assert ours.objective == pytest.approx((ours.losses["code"] + 2 * bits + ours.losses["hellaswag:error"]) / 4)


NEUTRAL, FIRST, NUM_EACH, STAGE_TOKENS = 5, {"a": 10, "b": 30}, 8, 256 * 150
OF_A = 0.3


def write_shard(folder: Path, *, first: int, num_pairs: int, like: Path) -> dict[str, str]:
    """A split of which every second token is neutral, the others uniform over a vocabulary of its own."""
    folder.mkdir(parents=True)
    ids = np.full(2 * num_pairs + 1, NEUTRAL, dtype=np.uint16)
    ids[1::2] = np.random.default_rng(first + num_pairs).integers(first, first + NUM_EACH, num_pairs)
    with open(bin_path(folder / "shard_00000"), "wb") as tokens, open(folder / "lengths", "w+b") as lengths:
        writer = IndexedWriter(tokens, lengths, dtype=np.dtype(np.uint16))
        writer.append(ids, np.array([len(ids)]))
        with open(idx_path(folder / "shard_00000"), "wb") as index:
            writer.write_index(index)
    before = Manifest.load(like)
    shard = replace(before.shards[0], name="shard_00000", num_documents=1, num_tokens=len(ids))
    manifest = replace(before, num_documents=1, num_tokens=len(ids), dtype="uint16", shards=(shard,))
    manifest.save(folder)
    return {"folder": str(folder), "sha256": manifest.sha256}


def disjoint_study(folder: Path) -> tuple[Study, RunConfig, MixSpec]:
    """Two sources whose tokens never meet: a window is (neutral, token, neutral), so a prediction is a single guess."""
    corpus = str(write_corpus(folder / "code.jsonl"))
    content = smallest_recipe(Path(corpus)).model_dump(mode="json")
    stage = {"name": "stable", "tokens": STAGE_TOKENS, "mixture": {"a": 60, "b": 40}, "lr": {"shape": "linear"}}
    content |= {"sources": {name: {"path": corpus, "heldout_frac": 0.05} for name in FIRST}, "stages": [stage]}
    content["model"]["seq_length_tokens"] = 2
    content["tokenizer"]["train_on"] = {"a": 1}
    content["batch"], content["optim"]["warmup_tokens"] = {"global_tokens": 256, "micro_seqs": 128}, 2560
    config = RunConfig.model_validate(content)
    spec = MixSpec(stage="stable", weights={"a": OF_A, "b": 1 - OF_A}, max_epochs=1, seeds=3, mixes=10)
    study = make_study(folder / "study", config, spec.model_dump(mode="json"), data_dir=folder / "data", workers=1)
    facts = json.loads(study.data.read_text())
    for name, ref in facts["sources"].items():
        for split, pairs in (("train", STAGE_TOKENS * 48 // 100), ("heldout", 4000)):
            made = write_shard(folder / name / split, first=FIRST[name], num_pairs=pairs, like=Path(ref[split]))
            ref[split], ref[f"{split}_sha256"] = made["folder"], made["sha256"]
    study.data.write_text(json.dumps(facts))
    return study, config, spec


@pytest.mark.slow
def test_disjoint_vocabularies_the_best_share_is_the_weight(tmp_path, monkeypatch):
    """Cross entropy of a guess between the two is −p·log s − (1 − p)·log(1 − s), least at s = p."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study, config, spec = disjoint_study(tmp_path)
    with conducting(study, workers=1) as run:
        found = MixStudy(spec, config, run, at_hand=at_hand_tokens(study)).conduct()
    decision = found.decision
    assert decision is not None
    assert decision.contains(np.array([OF_A, 1 - OF_A]))

    def guess(share: float) -> float:
        return -(OF_A * math.log(share) + (1 - OF_A) * math.log(1 - share)) / 2  # every second token is certain

    assert guess(decision.proposal[0]) - guess(OF_A) < 0.005
    runs = found.runs()
    expected = [guess(share) + math.log(NUM_EACH) / 2 for share in runs.x[:, 0]]
    assert runs.objective == pytest.approx(expected, abs=0.05)  # the trainer is where theory says, all over the simplex
