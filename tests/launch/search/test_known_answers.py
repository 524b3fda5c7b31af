"""Mixtures whose best is known: on the law, off it, flat, with a binding cap, with categories renamed (the real trainer on
disjoint vocabularies is in test_real_mix.py)."""

from dataclasses import dataclass

import numpy as np
import pytest

from launch.search.mix.decide import Decision, Runs, Verdict, Wish, decide
from launch.search.mix.design import share_line, splits
from launch.search.mix.groups import Group, Simplex

NUM_GROUPS, NUM_METRICS, SD = 4, 3, 0.01
PRIOR = np.array([0.4, 0.2, 0.2, 0.2])
EVERYWHERE = np.random.default_rng(9).dirichlet(np.ones(NUM_GROUPS), 20_000)
WEIGHTS = np.full(NUM_METRICS, 1 / NUM_METRICS)
METRICS = ("a", "b", "c")


def simplex(upper: tuple[float, ...] = (1.0,) * NUM_GROUPS) -> Simplex:
    groups = tuple(Group(f"g{index}", ((f"s{index}", 1.0),), sft=index > 0) for index in range(NUM_GROUPS))
    return Simplex(groups, np.array(upper))


def design(space: Simplex) -> np.ndarray:
    """What a study tries: 12 runs of arms, 24 of overall shares, 16 splits and 3 deletions."""
    arms = space.within(np.array([PRIOR, np.full(NUM_GROUPS, 1 / NUM_GROUPS), [0.55, 0.15, 0.15, 0.15]]))
    line = space.within(share_line(space, PRIOR, np.linspace(0.05, 0.95, 12)))
    parts = splits(space, PRIOR, np.array([0.3, 0.8]), 16, seed=0)
    return np.vstack([np.repeat(arms, 4, axis=0), np.repeat(line, 2, axis=0), parts])


@dataclass(frozen=True)
class Truth:
    """Each metric follows the log-linear law; `bend` adds what no such law can."""

    floor: np.ndarray
    slopes: np.ndarray
    bend: float = 0.0

    @classmethod
    def drawn(cls, seed: int, *, bend: float = 0.0) -> "Truth":
        rng = np.random.default_rng(seed)
        slopes = rng.uniform(-2.5, -0.3, (NUM_METRICS, NUM_GROUPS))
        slopes[np.arange(NUM_METRICS), np.arange(NUM_METRICS) + 1] = -4.0  # each metric has the group that helps it most
        return cls(rng.uniform(1, 2, NUM_METRICS), slopes, bend)

    def losses(self, x: np.ndarray) -> np.ndarray:
        bent = self.bend * np.maximum(0, x.max(axis=1, keepdims=True) - 0.45) ** 2
        return self.floor + np.exp(x @ self.slopes.T + 0.2) + bent

    def objective(self, x: np.ndarray) -> np.ndarray:
        return self.losses(x) @ WEIGHTS


def study(truth: Truth, *, seed: int, space: Simplex | None = None) -> Decision:
    space = space or simplex()
    x = design(space)
    measured = truth.losses(x) + SD * np.random.default_rng(1000 + seed).standard_normal((len(x), NUM_METRICS))
    return decide(Runs(x, measured, METRICS, WEIGHTS), space, Wish(PRIOR), seed=seed)


def on_law(replicates: int) -> dict[str, np.ndarray]:
    covered, regrets, beaten = [], [], []
    for seed in range(replicates):
        truth = Truth.drawn(seed)
        decision, everywhere = study(truth, seed=seed), truth.objective(EVERYWHERE)
        found = truth.objective(decision.proposal[None])[0]
        covered.append(decision.contains(EVERYWHERE[np.argmin(everywhere)]))
        regrets.append(found - everywhere.min())
        beaten.append(np.mean(found < everywhere))
    return {"covered": np.array(covered), "regrets": np.array(regrets), "beaten": np.array(beaten)}


def check_on_law(replicates: int) -> None:
    found = on_law(replicates)
    assert found["covered"].mean() >= 0.85
    assert found["regrets"].mean() < SD / np.sqrt(NUM_METRICS)  # the noise of one run's objective
    assert np.quantile(found["regrets"], 0.95) < 2 * SD / np.sqrt(NUM_METRICS)
    assert found["beaten"].mean() > 0.95  # of random weights


def test_on_the_law():
    check_on_law(20)


@pytest.mark.slow
def test_on_the_law_two_hundred_times():
    check_on_law(200)


def test_off_the_law_no_certainty_is_claimed():
    decisions = [study(Truth.drawn(seed, bend=4.0), seed=seed) for seed in range(6)]
    assert sum(one.verdict is Verdict.UNRESOLVED for one in decisions) >= 5
    for seed, one in enumerate(decisions):
        everywhere = Truth.drawn(seed, bend=4.0).objective(EVERYWHERE)
        assert one.contains(EVERYWHERE[np.argmin(everywhere)], near=0.1)


def test_where_nothing_matters_there_is_no_preference():
    flat = Truth(np.full(NUM_METRICS, 2.0), np.full((NUM_METRICS, NUM_GROUPS), -1.0))
    decisions = [study(flat, seed=seed) for seed in range(4)]
    assert sum(one.verdict is Verdict.NO_PREFERENCE for one in decisions) >= 3
    assert all(np.array_equal(one.proposal, PRIOR) for one in decisions if one.verdict is Verdict.NO_PREFERENCE)


def test_a_cap_that_binds_is_reached_and_kept():
    slopes = np.full((NUM_METRICS, NUM_GROUPS), -0.5)
    slopes[:, 2] = -4.0  # everything gains from one group …
    space = simplex((1.0, 1.0, 0.25, 1.0))  # … of which there is little
    decision = study(Truth(np.ones(NUM_METRICS), slopes), seed=0, space=space)
    assert 0.22 < decision.proposal[2] <= 0.25 + 1e-9
    assert (decision.stated <= space.upper + 1e-9).all()


def test_categories_in_another_order_give_the_same_answer():
    truth, order = Truth.drawn(3), np.array([0, 3, 1, 2])
    turned = Truth(truth.floor, truth.slopes[:, order])
    one, other = study(truth, seed=3), study(turned, seed=3)
    assert truth.objective(other.proposal[np.argsort(order)][None])[0] == pytest.approx(
        truth.objective(one.proposal[None])[0], abs=SD
    )
    assert other.contains(one.proposal[order], near=0.1)


def test_a_constraint_moves_the_choice():
    truth = Truth.drawn(0)
    x = design(simplex())
    runs = Runs(x, truth.losses(x) + SD * np.random.default_rng(0).standard_normal((len(x), 3)), METRICS, np.array([1.0, 0, 0]))
    free = decide(runs, simplex(), Wish(PRIOR))
    most = float(truth.losses(PRIOR[None])[0, 2])
    bound = decide(runs, simplex(), Wish(PRIOR, limits=((2, most),)))
    assert truth.losses(free.proposal[None])[0, 2] > most + 5 * SD  # all for the first metric
    assert truth.losses(bound.proposal[None])[0, 2] < most + 2 * SD
