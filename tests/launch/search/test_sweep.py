"""A sweep on a known landscape: what it asks, what it decides, what it says."""

import math
import random
from collections.abc import Sequence

import pytest

from launch.search.errors import SearchError
from launch.search.folder import Study
from launch.search.sweep.analyse import Analysis
from launch.search.sweep.report import write_report
from launch.search.sweep.study import Sweep, SweepSpec
from launch.search.trial import Result, Trial
from recipe.load import load_recipe
from tests.launch.search.fakes import Formula

SEARCH = ("peak_lr=0.001:0.1:log", "scale_emb=2:20:step=1", "scale_depth=1:5:step=0.1")
BEST_LR, SD = 0.02, 0.003


def landscape(trial: Trial) -> dict[str, float]:
    """A bowl in lr, tilted by scale_depth (they interact); scale_emb does nothing."""
    lr, depth = math.log(trial.point["optim.peak_lr"] / BEST_LR), trial.point["mup.scale_depth"] - 3
    noise = random.Random(f"{trial.overrides}").gauss(0, SD)
    return {"docs": 3 + 0.05 * lr**2 + 0.01 * depth**2 + 0.02 * lr * depth + noise}


def conduct(**changes) -> tuple[Sweep, Formula]:
    formula = Formula(landscape)
    spec = SweepSpec.model_validate({"search": SEARCH, "trials": 64, **changes})
    return Sweep(spec, load_recipe("demo"), formula).conduct(), formula


class Failing(Formula):
    """Trials of one label fail."""

    def __init__(self, *, label: str) -> None:
        super().__init__(landscape)
        self.label = label

    def __call__(self, trials: Sequence[Trial]) -> list[Result]:
        found = super().__call__(trials)
        return [Result(trial=one.trial, status="failed") if one.trial.label == self.label else one for one in found]


@pytest.fixture(scope="module")
def swept() -> Sweep:
    return conduct(confirm_width=4)[0]


def test_the_optimum_lies_in_the_stable_region_and_the_choice_is_near_it(swept):
    found = Analysis(swept)
    lr = found.region[0]
    assert lr.low <= BEST_LR <= lr.high
    assert lr.matters
    assert not found.region[1].matters  # scale_emb does nothing
    assert landscape(found.chosen.trial)["docs"] < 3 + 4 * SD


def test_importance_and_interaction_are_those_of_the_landscape(swept):
    found = Analysis(swept)
    assert max(found.importance, key=found.importance.get) == "optim.peak_lr"
    assert found.importance["mup.scale_emb"] < 0.1
    assert {found.interactions[0].first, found.interactions[0].second} == {"optim.peak_lr", "mup.scale_depth"}
    assert found.interactions[0].strength > 0


def test_noise_is_that_between_seeds(swept):
    assert swept.noise() == pytest.approx(SD, rel=0.5)


def test_finalists_have_seeds_of_their_own(swept):
    explored = {one.trial.overrides for one in swept.explored}
    for runs in swept.finals:
        assert len({one.trial.overrides for one in runs}) == len(runs) == 4
        assert not explored & {one.trial.overrides for one in runs}


def test_the_confirming_runs_are_on_the_wider_model_at_neighbouring_rates(swept):
    chosen, half = (swept.confirmed[name][0].trial for name in ("chosen", "half the lr"))
    assert "model.hidden_size=512" in chosen.overrides
    assert half.point["optim.peak_lr"] == chosen.point["optim.peak_lr"] / 2


def test_the_same_study_asks_the_same_again():
    (_, first), (_, second) = conduct(trials=24), conduct(trials=24)
    assert first.asked == second.asked
    assert [trial.number for trial in first.asked] == list(range(len(first.asked)))


def test_pruning_compares_complete_short_runs_only(swept):
    pruned, formula = conduct(prune_frac=0.25)
    explored = [trial for trial in formula.asked if trial.label == "explore"]
    assert all(trial.rung_frac == 0.25 for trial in explored)
    assert [trial.rung_above for trial in explored[:8]] == [None] * 8  # nothing to compare with yet
    assert sum(one.status == "pruned" for one in pruned.explored) > 8
    assert all(one.status == "done" for one in pruned.best())
    assert abs(math.log(pruned.best()[0].trial.point["optim.peak_lr"] / BEST_LR)) < 1


@pytest.mark.parametrize("method", ["random", "grid"])
def test_other_methods(method):
    found, _ = conduct(method=method, trials=27)
    assert 18 <= len(found.explored) <= 27


@pytest.mark.parametrize("method", ["tpe", "grid"])
def test_a_study_of_one_trial_has_its_report(method, tmp_path):
    found, _ = conduct(method=method, trials=1, confirm_width=2)
    assert "Of 1 points" in write_report(Study(tmp_path), found, command=["windtunnel", "sweep", "demo"])


def test_a_recipe_or_points_that_all_fail_are_an_error():
    with pytest.raises(SearchError, match="the recipe as it is failed"):
        Sweep(SweepSpec(search=SEARCH, trials=1), load_recipe("demo"), Failing(label="recipe as it is")).conduct()
    with pytest.raises(SearchError, match="no point came to its end"):
        Sweep(SweepSpec(search=SEARCH, trials=1), load_recipe("demo"), Failing(label="explore")).conduct()


def test_an_option_that_a_kept_study_doesnt_know_is_no_difference(tmp_path):
    spec = SweepSpec(search=SEARCH).model_dump(mode="json")
    study = Study(tmp_path)
    study.begin({key: value for key, value in spec.items() if key != "max_questions"})
    study.begin(spec)
    with pytest.raises(SearchError, match="max_questions: None → 5"):
        study.begin(spec | {"max_questions": 5})


def test_a_flat_landscape_is_said_to_have_found_nothing(tmp_path):
    formula = Formula(lambda trial: {"docs": 3 + random.Random(f"{trial.overrides}").gauss(0, SD)})
    sweep = Sweep(SweepSpec(search=SEARCH, trials=24), load_recipe("demo"), formula).conduct()
    said = write_report(Study(tmp_path), sweep, command=["windtunnel", "sweep", "demo"])
    assert "found nothing better than the recipe" in said


def test_the_record_of_a_study(swept, tmp_path):
    said = write_report(Study(tmp_path), swept, command=["windtunnel", "sweep", "demo"])
    assert said in (tmp_path / "README.md").read_text()
    assert (tmp_path / "panels.png").stat().st_size > 10_000
    proposed = load_recipe("demo", [])  # the fragment is one that a recipe takes
    fragment = (tmp_path / "proposal.yaml").read_text()
    assert "# Proposed by" in fragment
    own = tmp_path / "mine.yaml"
    own.write_text("extends: demo\n" + fragment)
    assert load_recipe(str(own)).optim.peak_lr == swept.best()[0].trial.point["optim.peak_lr"] != proposed.optim.peak_lr
