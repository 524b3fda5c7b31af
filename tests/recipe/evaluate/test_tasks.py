"""The report's suite on data in its true formats: scores of the live model, of its export and of the harness's own backend."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recipe.evaluate.checkpoints import find_checkpoint
from recipe.evaluate.loglikelihood import TaskError
from recipe.evaluate.pending import is_finished, pending_checkpoints
from recipe.evaluate.run import Wanted, open_export
from recipe.evaluate.suite import COMMONSENSE, TASKS, task_names
from recipe.evaluate.tasks import harness_result, prepare_tasks, run_tasks
from recipe.rundir import RunDir, read_json, write_json
from tests.recipe.evaluate.fixtures import write_datasets
from tests.recipe.export.test_export import run_command, trained  # noqa: F401 - a fixture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the harness's own, where it is imported here
NEVER: Any = None  # a model that isn't asked: what is missing is said before


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_datasets(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def export(trained: RunDir) -> Path:  # noqa: F811
    done = run_command("export", str(trained.root), "--overwrite")
    assert done.returncode == 0, done.stderr
    return trained.export / "hf"


def evaluated(where: Path, data: Path, tasks: str, *options: str) -> dict:
    done = run_command("eval", str(where), "--tasks", tasks, "--data", str(data), "--no-heldout", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["tasks"]


def test_groups_and_names() -> None:
    assert task_names("commonsense") == list(COMMONSENSE)
    assert task_names("gsm8k, reasoning")[0] == "gsm8k"
    assert set(task_names("all")) == set(TASKS)
    with pytest.raises(TaskError, match="arc_esy: no such task"):
        task_names("arc_esy")


def test_live_model_and_export_score_alike(trained: RunDir, export: Path, data: Path) -> None:  # noqa: F811
    tasks = "arc_easy,hellaswag,gsm8k"
    live = evaluated(trained.root, data, tasks, "--calibration", "--by-index", "code")
    assert live == evaluated(export, data, tasks)
    assert {row["num_questions"] for row in live.values()} == {5, 7}
    written = read_json(trained.evaluation("tasks", "stable", 2048))
    assert written["tasks"] == live
    assert read_json(trained.evaluation("calibration", "stable", 2048))["calibration"]["num_questions"] == 57 * 5
    curve = read_json(trained.evaluation("by-index", "stable", 2048))["by_index"]
    assert len(curve["loss_nats"]) == 32
    shown = run_command("eval", str(trained.root), "--table")
    assert all(name in shown.stdout for name in ("arc_easy", "gsm8k", "ECE"))


@pytest.mark.slow
@pytest.mark.parametrize(("axes", "processes"), [("tp: 2", 2), ("pp: 2", 2), ("tp: 1", 2)])
def test_every_layout_scores_alike(
    trained: RunDir, export: Path, data: Path, axes: str, processes: int  # noqa: F811
) -> None:
    tasks = "arc_easy,hellaswag,gsm8k,humaneval"
    recipe = read_json(trained.resolved)
    key, degree = axes.split(": ")
    changed = json.loads(json.dumps(recipe))
    changed["config"]["parallel"][key] = int(degree)
    trained.resolved.write_text(json.dumps(changed))
    try:
        live = evaluated(trained.root, data, tasks, "--limit", "4", "--processes", str(processes))
    finally:
        trained.resolved.write_text(json.dumps(recipe))
    assert live == evaluated(export, data, tasks, "--limit", "4")


@pytest.mark.slow
def test_the_whole_suite_runs_and_equals_the_harness(export: Path, data: Path, tmp_path: Path) -> None:
    """With a longer context than it was trained on: the smallest model's 32 tokens hold no worked example."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from recipe.evaluate.suite import local_datasets

    wide = shutil.copytree(export, tmp_path / "wide")
    config = read_json(wide / "config.json")
    write_json(wide / "config.json", config | {"max_position_embeddings": 512})
    subject = open_export(wide)
    found = run_tasks(subject.scorer, subject.tokenizer, list(TASKS), data=data, max_tokens=subject.max_tokens, limit=3)
    assert all(0 <= row["value"] <= 1 for row in found.values())
    theirs = HFLM(pretrained=str(wide), device="cpu", dtype="float32", batch_size=1, max_length=subject.max_tokens)
    for name, task in TASKS.items():
        if task.harness and name not in ("math", "bbh"):  # minutes of greedy decoding without a cache
            with local_datasets(data):
                told = simple_evaluate(theirs, tasks=list(task.harness), limit=3, bootstrap_iters=0, log_samples=False)
            assert found[name] == harness_result(told, name), name


def test_missing_data_is_named_with_how_to_get_it_before_anything_runs(tmp_path: Path, data: Path) -> None:
    with pytest.raises(TaskError) as refused:
        run_tasks(NEVER, NEVER, ["arc_easy", "piqa"], data=tmp_path, max_tokens=32)
    for words in ("arc_easy: ", "allenai/ai2_arc/ARC-Easy: no data", "piqa: ", "load_dataset('baber/piqa'", "--skip-missing"):
        assert words in str(refused.value)
    (tmp_path / "baber").symlink_to(data / "baber")
    found, missing = prepare_tasks(["arc_easy", "piqa"], data=tmp_path)
    assert (list(found), list(missing)) == (["piqa"], ["arc_easy"])
    left_out = run_tasks(NEVER, NEVER, ["arc_easy"], data=tmp_path, max_tokens=32, skip_missing=True)
    assert "no data" in left_out["arc_easy"]["missing"]


def test_checkpoints_beside_a_run_are_evaluated_once(trained: RunDir) -> None:  # noqa: F811
    wanted = Wanted(tasks=("arc_easy",), calibration=True)
    assert is_finished(trained)
    for kind in ("tasks", "calibration"):
        trained.evaluation(kind, "stable", 2048).unlink(missing_ok=True)
    ((checkpoint, lacking),) = pending_checkpoints(trained, wanted)
    assert checkpoint == find_checkpoint(trained)
    assert (lacking.heldout, lacking.tasks, lacking.calibration) == (True, ("arc_easy",), True)  # training writes no baselines
    row = {"value": 0.5}
    write_json(trained.evaluation("tasks", "stable", 2048), {"stage": "stable", "tokens": 2048, "tasks": {"arc_easy": row}})
    write_json(trained.evaluation("calibration", "stable", 2048), {"stage": "stable", "tokens": 2048, "calibration": {}})
    assert list(pending_checkpoints(trained, replace(wanted, heldout=False))) == []
    more = replace(wanted, heldout=False, tasks=("arc_easy", "piqa"))
    assert [lacking.tasks for _, lacking in pending_checkpoints(trained, more)] == [("piqa",)]
