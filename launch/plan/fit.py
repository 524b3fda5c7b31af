"""Fitting the few free numbers of `Calibration` on published runs, and judging the fit on families left out of it.

Least squares on the logarithm of step time with a soft loss (a published sweep has outliers), every family of the same weight
however many rows it has, and a pull towards the priors: six numbers, none of them per family or model.
"""

from dataclasses import replace

import numpy as np

from launch.plan.calibration import PRIORS, Calibration
from launch.plan.published import Case
from launch.plan.score import Prediction, predict
from launch.plan.steptime import step_time

GENERATIONS = {
    "a100-80": "a100",
    "a100-40": "a100",
    "h100-sxm": "h100",
    "h100-sxm-96": "h100",
    "h100-sxm-efa": "h100",
    "h200": "h100",
    "h100-pcie": "h100",
}
PRIOR_WIDTH = 0.15  # a factor away from its prior by so much costs as much as an error of SOFT on one family
SOFT = 0.06
NAMES = ("hot a100", "hot h100", "eager_scale", "tp_exposed_frac", "dp_exposed_frac")


def _calibration(log_factors: np.ndarray) -> Calibration:
    """Priors times exp(log_factors), in the order of NAMES."""
    factors = np.exp(log_factors)
    prior = PRIORS.hot("*")
    hot = {name: prior * factors[0 if generation == "a100" else 1] for name, generation in GENERATIONS.items()}
    return PRIORS.changed(
        hot_frac={"*": prior * float(np.sqrt(factors[0] * factors[1]))} | {name: float(value) for name, value in hot.items()},
        eager_scale=float(PRIORS.eager_scale * factors[2]),
        tp_exposed_frac=float(factors[3]), dp_exposed_frac=float(factors[4]), source="published runs",
    )  # fmt: skip


def fit(cases: list[Case]) -> Calibration:
    """The calibration that explains the cases best (scipy is imported here: only the fit needs it)."""
    from scipy.optimize import least_squares

    timed = [case for case in cases if case.tokens_per_s_gpu]
    frozen = [predict(case, PRIORS) for case in timed]  # what a row leaves out is inferred once, under the priors
    families = [case.family for case in timed]
    weights = np.array([1 / np.sqrt(families.count(family)) for family in families])

    def residuals(log_factors: np.ndarray) -> np.ndarray:
        calibration = _calibration(log_factors)
        errors = [np.log(_tokens_per_s_gpu(one, calibration) / (one.case.tokens_per_s_gpu or np.nan)) for one in frozen]
        return np.concatenate([weights * np.array(errors), log_factors * SOFT / PRIOR_WIDTH])

    solved = least_squares(residuals, np.zeros(len(NAMES)), loss="soft_l1", f_scale=SOFT, diff_step=1e-3)
    return _calibration(solved.x)


def _tokens_per_s_gpu(one: Prediction, calibration: Calibration) -> float:
    case, layouts = one.case, one.layouts
    time = step_time(case.shape, layouts, case.engine, case.hardware, calibration, precision=case.precision)
    tokens = layouts.num_microbatches[0] * layouts.mbs[0] * layouts.dp[0] * case.shape.seq_tokens
    return float(tokens / time.step_s[0] / case.num_gpus)


def leave_out(cases: list[Case], family: str) -> Calibration:
    """The calibration of all families but one."""
    return replace(fit([case for case in cases if case.family != family]), source=f"published runs but family {family}")


def leave_one_family_out(cases: list[Case]) -> dict[str, list[Prediction]]:
    """For every family: its predictions by a calibration that never saw it."""
    families = sorted({case.family for case in cases})
    held_out = {family: leave_out(cases, family) for family in families}
    return {family: [predict(case, held_out[family]) for case in cases if case.family == family] for family in families}
