"""The tuner: when a trial has said enough, what is tried, what is learned; and short real runs of a tiny recipe (slow)."""

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from launch.plan.answer import default_calibration, problem_of
from launch.plan.calibration import Calibration
from launch.plan.errors import PlanError
from launch.plan.recipe import with_layout
from launch.plan.search import price
from launch.plan.shapes import Layouts
from launch.plan.space import stack
from launch.tune import loop, show
from launch.tune.array import collect, task_folder
from launch.tune.learn import learn
from launch.tune.loop import Answer, Settings, candidates, refusal, tune
from launch.tune.trial import Result, Site, trial_config
from launch.tune.verdict import Rule, Verdict, died_of, judge, measured_s
from recipe.load import load_recipe

RULE = Rule(warmup_steps=1, num_steps=3)


def problem(recipe: str = "demo", *, gpu: str = "cpu-node", gpus: int = 2, overrides: tuple[str, ...] = ()):
    return problem_of(load_recipe(recipe, list(overrides)), gpu=gpu, num_gpus=gpus, engine="windtunnel")


@pytest.mark.parametrize(
    ("steps_s", "best_s", "verdict"),
    [
        ([], None, Verdict.GOING),
        ([9, 1, 1], None, Verdict.GOING),
        ([9, 1, 1, 1], None, Verdict.MEASURED),
        ([9, 1.2, 1.3], 1.0, Verdict.DOMINATED),  # its fastest is 20 % slower
        ([9, 1.05, 3.0], 1.0, Verdict.GOING),  # a slow step alone proves nothing
        ([9, 1.2], 1.0, Verdict.GOING),  # nor does one step
        ([0.1, 1.2, 1.2], 1.0, Verdict.DOMINATED),  # nor does a fast warm-up save it
    ],
)
def test_a_trial_goes_on_until_it_has_said_enough(steps_s, best_s, verdict):
    assert judge(steps_s, rule=RULE, best_s=best_s) is verdict


def test_the_warm_up_is_discarded():
    assert measured_s([9, 2, 1, 3, 50], rule=RULE) == 2
    assert measured_s([9, 2], rule=RULE) is None


@pytest.mark.parametrize(
    ("code", "log", "verdict", "says"),
    [
        (1, "x\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n", Verdict.OUT_OF_MEMORY, "2 GiB"),
        (1, "DefaultCPUAllocator: can't allocate memory: 2 GB", Verdict.OUT_OF_MEMORY, "2 GB"),
        (137, "", Verdict.OUT_OF_MEMORY, "SIGKILL"),
        (1, "Traceback\nValueError: no\n", Verdict.FAILED, "ValueError: no"),
        (3, "", Verdict.FAILED, "exit code 3"),
    ],
)  # fmt: skip
def test_what_a_dead_trial_died_of(code, log, verdict, says):
    found, detail = died_of(code, ["fine", log])
    assert found is verdict
    assert says in detail


def test_candidates_are_distinct_predictions_the_best_first():
    found = candidates(problem(), default_calibration(), load_recipe("demo"), top=3)
    assert len({(one.layouts.row(0)["mbs"], one.layouts.row(0)["pp"], round(one.step_s, 6)) for one in found}) > 3
    assert [one.step_s for one in found] == pytest.approx(sorted(one.step_s for one in found), rel=2e-3)
    assert not any(one.layouts.row(0)["offload"] for one in found)  # a CPU has nowhere to offload to


def test_the_micro_batch_alone():
    config = load_recipe("demo", ["parallel.pp=2"])
    found = candidates(problem(), default_calibration(), config, top=3, only_micro=True)
    rows = [one.layouts.row(0) for one in found]
    assert {row["pp"] for row in rows} == {2}
    assert len({row["mbs"] for row in rows}) == len(rows) > 3


def test_a_layout_that_the_ramp_does_not_take_is_refused_before_it_runs():
    config = load_recipe("demo")
    layouts = stack([Layouts.one(dp=2, mbs=size, num_microbatches=32 // size) for size in (16, 32)])
    fine, large = price(problem(), layouts, default_calibration())
    assert refusal(config, fine, num_processes=2) == ""
    assert "8192" in refusal(config, large, num_processes=2)  # the ramp begins at 32 sequences, 2·32 don't divide it


def test_a_trial_is_the_recipe_in_another_layout():
    config = load_recipe("demo")
    candidate = candidates(problem(), default_calibration(), config, top=1)[0]
    changed, trial = with_layout(config, candidate), trial_config(config, candidate)
    assert changed.batch.micro_seqs == trial.batch.micro_seqs == candidate.layouts.row(0)["mbs"]
    assert changed.model == config.model
    assert changed.stages == config.stages
    assert all(stage.batch is None for stage in trial.stages)
    assert trial.sources == config.sources


def results_of(truth: Calibration, *, count: int = 6) -> list[Result]:
    """Trials as a machine with that calibration would have them."""
    found = candidates(problem(), default_calibration(), load_recipe("demo"), top=9)[:count]
    times = [price(problem(), one.layouts, truth)[0].step_s for one in found]
    return [Result(one, Verdict.MEASURED, step_s=seconds) for one, seconds in zip(found, times)]


def test_the_calibration_learned_predicts_the_machine():
    known = default_calibration()
    truth = known.changed(hot_frac={"*": 0.5}, step_overhead_s=0.2)
    results = results_of(truth)
    learned = learn(problem(), known, results)
    for one in results:
        assert price(problem(), one.candidate.layouts, learned)[0].step_s == pytest.approx(one.step_s, rel=0.03)
    assert learned.hot("h100-sxm") == known.hot("h100-sxm")  # other machines stay as they were
    assert learn(problem(), known, []).hot_frac == known.hot_frac


def test_out_of_memory_teaches_the_next_plan():
    on_gpu = problem("xmodel2-1.2b", gpu="h100", gpus=8)
    known = default_calibration()
    config = load_recipe("xmodel2-1.2b")
    best = candidates(on_gpu, known, config, top=1)[0]
    learned = learn(on_gpu, known, [Result(best, Verdict.OUT_OF_MEMORY)])
    assert learned.memory_scale > 1
    again = candidates(on_gpu, learned, config, top=20)
    assert best.label() not in [one.label() for one in again]
    here = candidates(problem(), known, load_recipe("demo"), top=1)[0]
    assert learn(problem(), known, [Result(here, Verdict.OUT_OF_MEMORY)]).memory_scale == 1  # others share a CPU's memory


def test_the_loop_skips_what_needs_as_much_as_what_died_and_what_has_no_time(tmp_path, monkeypatch):
    config, known = load_recipe("demo"), default_calibration()
    ran = []

    def dies(candidate, config, *, root, site: Site, best_s):
        ran.append(candidate)
        return Result(candidate, Verdict.OUT_OF_MEMORY)

    monkeypatch.setattr(loop, "run_trial", dies)
    settings = Settings(out=tmp_path, data_dir=tmp_path, top=5, rule=RULE)
    answer = tune(problem(), known, config, settings=settings)
    sizes = [one.allocated_bytes for one in ran]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert answer.best is None
    ran.clear()
    nothing = Answer(answer.results[:0], known)
    show.write(nothing, problem(), config, rule=RULE, recipe="demo", override=[], out=tmp_path / "none")
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["tune.json"]
    late = tune(problem(), known, config, settings=dataclasses.replace(settings, budget_s=-1.0))
    assert ran == []
    assert {one.verdict for one in late.results} <= {Verdict.SKIPPED, Verdict.REFUSED}


def test_the_winner_is_a_recipe_that_loads(tmp_path):
    results = results_of(default_calibration())
    answer = Answer(tuple(results), default_calibration())
    config = load_recipe("demo")
    content = show.write(answer, problem(), config, rule=RULE, recipe="demo", override=[], out=tmp_path)
    assert content["spearman"] == pytest.approx(1)
    winner = load_recipe(str(tmp_path / "layout.yaml"))
    assert winner == with_layout(config, answer.best.candidate)
    assert Calibration.load(tmp_path / "calibration.json") == default_calibration()
    assert json.loads((tmp_path / "tune.json").read_text())["best"] == answer.best.candidate.label()


def test_tasks_of_an_array_run_one_candidate_each_and_are_put_together(tmp_path, monkeypatch):
    config, known = load_recipe("demo"), default_calibration()

    def takes(candidate, config, *, root, site: Site, best_s):
        return Result(candidate, Verdict.MEASURED, steps_s=(3.0, 2.0, 2.0, 2.0), step_s=2 * candidate.step_s)

    monkeypatch.setattr(loop, "run_trial", takes)
    for index in range(3):
        folder = task_folder(tmp_path, index)
        settings = Settings(out=folder, data_dir=tmp_path, top=3, rule=RULE, only=index)
        one = tune(problem(), known, config, settings=settings)
        assert len(one.results) == 1
        show.write(one, problem(), config, rule=RULE, recipe="demo", override=[], out=folder)
    together = collect(tmp_path, problem(), known)
    assert len({one.candidate.label() for one in together.results}) == 3
    assert together.best.candidate.step_s == min(one.candidate.step_s for one in together.results)
    with pytest.raises(PlanError, match="no task"):
        collect(tmp_path / "none", problem(), known)


@pytest.mark.slow
def test_short_real_runs(tmp_path):
    """Two layouts of a tiny recipe on two processes, measured and written down; nothing is left running or half-written."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for path in sorted(Path(os.__file__).parent.glob("*.py"))[:40]:
        shutil.copy(path, texts / f"{path.stem}.txt")
    overrides = [
        "model.num_layers=2", "model.hidden_size=32", "model.ffn_hidden_size=64", "model.num_heads=4", "model.num_kv_heads=2",
        "model.seq_length_tokens=32", "model.vocab_size=400", "mup.dim_model_base=16", "tokenizer.train_bytes=200KB",
        "tokenizer.train_on={text: 1}", f"sources={{text: {{kind: text, path: '{texts}/*.txt', heldout_frac: 0.1}}}}",
        "stages=[{name: stable, tokens: 30720, mixture: {text: 100}}]", "batch.global_tokens=256", "optim.warmup_tokens=512",
    ]  # fmt: skip
    config = load_recipe("demo", overrides)
    settings = Settings(out=tmp_path / "out", data_dir=tmp_path / "data", top=2, budget_s=400, rule=RULE)
    started_s = time.monotonic()
    answer = tune(problem(overrides=tuple(overrides)), default_calibration(), config, settings=settings)
    tried = [one for one in answer.results if one.verdict is not Verdict.REFUSED]
    assert len(tried) == 2
    assert tried[0].verdict is Verdict.MEASURED, tried[0].detail
    assert tried[1].verdict in (Verdict.MEASURED, Verdict.DOMINATED), tried[1].detail
    assert all(0 < one.step_s < time.monotonic() - started_s for one in tried)
    assert all(len(one.steps_s) >= RULE.warmup_steps + RULE.min_steps for one in tried)
    asked = {"recipe": "demo", "override": overrides, "out": tmp_path / "out"}
    content = show.write(answer, problem(overrides=tuple(overrides)), config, rule=RULE, **asked)
    assert content["noise_frac"] >= 0
    show.print_table(content, out=tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out" / "layout.yaml").read_text())["extends"] == "demo"
    assert answer.calibration.source.startswith("tune of 2 layouts")
