"""What short runs teach the planner about the machine they ran on: a calibration for the next plan.

Least squares on the logarithm of step time, in four factors of the closed form, each pulled towards what was believed before:
what the trials can't tell apart stays as it was.
"""

import math
from statistics import median

import numpy as np

from launch.plan.calibration import Calibration
from launch.plan.search import Problem
from launch.plan.space import stack
from launch.plan.steptime import step_time
from launch.tune.trial import Result
from launch.tune.verdict import Verdict

WIDTHS = np.array([0.7, 0.7, 4.0, 2.0])  # a factor e^width away from its prior costs as much as an error of SOFT in one trial
SOFT = 0.05


def learn(problem: Problem, known: Calibration, results: list[Result]) -> Calibration:
    """The calibration of this machine.

    Args:
        problem: What was tuned.
        known: What the candidates were priced with.
        results: Of all candidates; those without a time teach about memory only.
    """
    source = f"tune of {sum(one.step_s is not None for one in results)} layouts on {problem.cluster.hardware.name}"
    changed = known.changed(memory_scale=_memory_scale(problem, known, results), source=source)
    return _timed(problem, changed, [one for one in results if one.step_s is not None])


def _timed(problem: Problem, known: Calibration, timed: list[Result]) -> Calibration:
    if not timed:
        return known
    from scipy.optimize import least_squares  # only here: the planner itself needs no scipy

    table = stack([one.candidate.layouts for one in timed])
    measured = np.log([one.step_s or math.nan for one in timed])
    hardware = problem.cluster.hardware

    def changed(factors: np.ndarray) -> Calibration:
        hot, eager, launch, overhead = (float(one) for one in np.exp(factors))
        return known.changed(
            hot_frac=known.hot_frac | {hardware.name: known.hot(hardware.name) * hot}, eager_scale=known.eager_scale * eager,
            launch_scale=known.launch_scale * launch, step_overhead_s=known.step_overhead_s * overhead,
        )  # fmt: skip

    def residuals(factors: np.ndarray) -> np.ndarray:
        time = step_time(problem.shape, table, problem.engine, hardware, changed(factors), precision=problem.precision)
        return np.concatenate([np.log(time.step_s) - measured, factors * SOFT / WIDTHS])

    return changed(least_squares(residuals, np.zeros(len(WIDTHS)), loss="soft_l1", f_scale=SOFT, diff_step=1e-3).x)


def _memory_scale(problem: Problem, known: Calibration, results: list[Result]) -> float:
    """Measured over predicted bytes, and at least what makes a layout that ran out of memory fill the whole device.

    GPUs only: a CPU rank's resident memory is mostly libraries, and others share what it runs out of. Measured only where the
    fullest rank is rank 0, whose memory is known.
    """
    hardware = problem.cluster.hardware
    if hardware.kind == "cpu":
        return known.memory_scale
    ratios = [
        one.memory_bytes / one.candidate.allocated_bytes
        for one in results
        if one.memory_bytes and one.step_s is not None and one.candidate.peak_stage == 0
    ]
    dead = [one.candidate for one in results if one.verdict is Verdict.OUT_OF_MEMORY]
    least = [hardware.memory_bytes / one.device_bytes for one in dead]
    return known.memory_scale * max([median(ratios) if ratios else 1.0, *least])
