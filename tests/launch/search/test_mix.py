"""A mixture study: what it asks for, what it counts, what it keeps."""

import random

import numpy as np
import pytest

from launch.search.errors import SearchError
from launch.search.folder import Study
from launch.search.mix.decide import Verdict
from launch.search.mix.report import write_report
from launch.search.mix.study import MixSpec, MixStudy, Supply
from launch.search.scores import objective_weights, unit_of
from launch.search.trial import Trial
from recipe.evaluate.loglikelihood import TaskError
from recipe.load import load_recipe
from tests.launch.search.fakes import Formula
from tests.recipe.evaluate.fixtures import write_datasets

AT_HAND = {
    "code": 3_000_000, "knowledge": 6_000_000, "math": 2_000_000, "sft_math": 3_000_000, "sft_code": 4_000_000,
    "sft_logic": 200_000, "sft_knowledge": 700_000,
}  # fmt: skip
SD = 0.004


def formula(trial: Trial) -> dict[str, float]:
    """Each source's loss falls with its own share; SFT math helps most."""
    if "mixture" not in trial.point:
        return dict.fromkeys(AT_HAND, 3.0)
    noise = random.Random(f"{trial.overrides}")
    share = {source: trial.point["mixture"].get(source, 0.0) / 100 for source in AT_HAND}
    return {source: 2.5 + np.exp(-3 * share[source] - 2 * share["sft_math"]) + noise.gauss(0, SD) for source in AT_HAND}


def conduct(**changes) -> tuple[MixStudy, Formula]:
    run = Formula(formula)
    spec = MixSpec.model_validate({"stage": "decay", "target_tokens": 5_000_000, **changes})
    return MixStudy(spec, load_recipe("demo"), run, at_hand=AT_HAND).conduct(), run


@pytest.fixture(scope="module")
def studied() -> tuple[MixStudy, Formula]:
    return conduct(confirm_width=2)


def test_one_trunk_arms_shares_splits_and_a_mix_without_each_category(studied):
    found, run = studied
    labels = [trial.label for trial in run.asked]
    assert labels.count("arm") == 12
    assert labels.count("share") == 24
    assert labels.count("split") == 4 * 5 + 4
    trunk, *others = run.asked[: labels.index("trunk", 1)]
    assert trunk.label == "trunk"
    assert {trial.start for trial in others} == {trunk.checkpoint("stable", trunk.save_tokens[0])}
    without = [set(found.simplex.names) - {name for name, x in zip(found.simplex.names, one.trial.point["x"]) if x > 0.01}
               for one in found.results if one.trial.label == "split"][-4:]  # fmt: skip
    assert [next(iter(missing)) for missing in without] == ["math", "code", "logic", "knowledge"]


def test_a_short_run_repeats_a_source_as_often_as_the_real_one(studied):
    found, run = studied
    pools = run.asked[-1].pools
    decay_tokens = 500_000
    assert pools["sft_logic"] == AT_HAND["sft_logic"] * decay_tokens // 5_000_000
    assert set(pools) == {source for source in AT_HAND if source.startswith("sft_")}  # what the stable stage read is as it was
    mixture = run.asked[-1].point["mixture"]
    epochs = found.supply.epochs(mixture)["sft_code"]
    assert epochs == pytest.approx(mixture["sft_code"] / 100 * decay_tokens / pools["sft_code"], rel=1e-3)


def test_no_mix_goes_beyond_the_cap(studied):
    found, _ = studied
    logic = found.simplex.names.index("logic")
    assert found.simplex.upper[logic] == pytest.approx(4 * 200_000 / 5_000_000)
    assert found.runs().x[:, logic].max() <= found.simplex.upper[logic] + 1e-6
    assert found.decision.proposal[logic] <= found.simplex.upper[logic] + 1e-6


def test_the_better_mix_is_found_and_confirmed_against_each_arm_by_seed(studied):
    found, _ = studied
    assert found.decision.verdict in (Verdict.BETTER, Verdict.UNRESOLVED)
    for name in ("prior", "proportional", "uniform"):
        ours, theirs = found.confirmed["proposed"], found.confirmed[name]
        assert [a.trial.start for a in ours] == [b.trial.start for b in theirs]  # paired: of one stable run
        assert sum(b.loss - a.loss for a, b in zip(ours, theirs)) > 0
    assert all("model.hidden_size=256" in one.trial.overrides for one in found.confirmed["proposed"])


def test_the_same_study_asks_the_same_again(studied):
    assert conduct(confirm_width=2)[1].asked == studied[1].asked


def test_the_record_says_how_many_epochs_and_gives_a_recipe(studied, tmp_path):
    said = write_report(Study(tmp_path), studied[0], command=["windtunnel", "mix", "demo"])
    readme = (tmp_path / "README.md").read_text()
    assert said in readme
    assert "epochs at full scale" in readme
    own = tmp_path / "mine.yaml"
    own.write_text("extends: demo\n" + (tmp_path / "proposal.yaml").read_text())
    proposed = load_recipe(str(own)).stages[1].mixture
    assert proposed["sft_math"] > load_recipe("demo").stages[1].mixture["sft_math"]


def test_the_first_stage_is_searched_without_a_trunk():
    found, run = conduct(stage="stable", target_tokens=None, no_worse={"code": 0.01})
    assert found.simplex.names == ["code", "knowledge", "math"]
    assert all(trial.start is None for trial in run.asked)
    assert found.wish().limits


def test_scores_of_tasks_are_metrics_like_losses():
    """Bits fall with SFT math, errors with SFT code; the losses of sources still bound the choice."""

    def with_scores(trial: Trial) -> dict[str, float]:
        mixture, noise = trial.point.get("mixture", {}), random.Random(f"scores {trial.overrides}")
        math, code = (mixture.get(source, 0.0) / 100 for source in ("sft_math", "sft_code"))
        bits, error = 1 + np.exp(-4 * math), 0.2 + 0.5 * np.exp(-4 * code)
        return formula(trial) | {"arc_easy:bits": bits + noise.gauss(0, SD), "piqa:error": error + noise.gauss(0, SD)}

    weights = {"arc_easy:bits": 1.0, "piqa:error": 2.0}
    spec = MixSpec.model_validate({"stage": "decay", "weights": weights, "no_worse": {"code": 0.3}, "max_questions": 20})
    run = Formula(with_scores)
    found = MixStudy(spec, load_recipe("demo"), run, at_hand=AT_HAND).conduct()
    assert found.runs().metrics == ("arc_easy:bits", "piqa:error", "code")
    assert found.runs().weights.tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert all(trial.max_questions == 20 and trial.weights == weights for trial in run.asked if trial.label != "trunk")
    share = dict(zip(found.simplex.names, found.decision.proposal))
    assert min(share["math"], share["code"]) > 0.3
    ((metric, most),) = found.wish().limits
    assert found.runs().metrics[metric] == "code"
    assert found.decision.forms["log-linear"].laws[metric].mean(found.decision.proposal[None])[0] <= most


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the harness's own
def test_scores_are_named_by_task_and_metric(tmp_path):
    data = write_datasets(tmp_path)
    weights = objective_weights(["code=1", "arc_easy:bits=2", "piqa:error=0.5"], ["code"], data=str(data))
    assert weights == {"code": 1, "arc_easy:bits": 2, "piqa:error": 0.5}
    assert (unit_of(weights), unit_of({"code": 1})) == ("of the objective", "nats per token")
    with pytest.raises(SearchError, match="--weight gsm8k:error: no such metric"):
        objective_weights(["gsm8k:error=1"], ["code"], data=str(data))
    with pytest.raises(TaskError, match=r"--eval-data: arc_easy: .*no data"):
        objective_weights(["arc_easy:bits=1"], ["code"], data=str(tmp_path / "none"))


def test_caps_that_leave_the_stage_unfilled_are_refused():
    with pytest.raises(SearchError, match=r"--max-epochs: the data at hand fills \d+ % of the stage"):
        conduct(target_tokens=10**9)


def test_the_trunk_keeps_what_follows_from_the_recipes_duration():
    """The stable stage alone is shorter; learning rate and betas are those of the whole recipe all the same."""
    run = Formula(formula)
    bases = ["mup.batch_tokens_base=16384", "mup.duration_tokens_base=1M", "stages.stable.batch=null"]
    spec = MixSpec.model_validate({"stage": "decay", "shares": 3, "mixes": 2})
    MixStudy(spec, load_recipe("demo", bases), run, at_hand=AT_HAND).conduct()
    assert "mup.duration_tokens=2100000" in run.asked[0].overrides


def test_a_stable_run_that_would_draw_other_text_is_refused():
    spec = MixSpec.model_validate({"stage": "decay"})
    with pytest.raises(SearchError, match="the longest sequence, 1024 tokens, comes only after the stable run, of 256"):
        MixStudy(spec, load_recipe("demo", ["stages.decay.seq_length_tokens=1024"]), Formula(formula), at_hand=AT_HAND)


def test_supply_counts_epochs_of_the_real_run():
    supply = Supply({"a": 100, "b": 1000}, stage_tokens=1000, proxy_tokens=100)
    assert supply.caps(4) == {"a": 0.4, "b": 4.0}
    assert supply.epochs({"a": 30, "b": 70}) == {"a": 3.0, "b": 0.7}
    assert supply.pools({"a": 100, "b": 1000}, block=1) == {"a": 10, "b": 100}
