"""How right the planner is on published runs: error of throughput and memory by family, ranking, verdicts on memory.

make bench-plan CSV=tests/data/parallelism_measurements.csv
"""

from dataclasses import dataclass, fields

import numpy as np

from launch.plan.calibration import Calibration
from launch.plan.memory import fit_verdict, totals
from launch.plan.published import Case
from launch.plan.shapes import RECOMPUTE, Layouts
from launch.plan.space import legal_layouts
from launch.plan.steptime import step_time


@dataclass(frozen=True)
class Prediction:
    """One case: what the planner says beside what was published. Errors are predicted over measured, minus one."""

    case: Case
    layouts: Layouts
    step_s: float
    tokens_per_s_gpu: float
    memory_gib: float
    verdict: str
    inferred: tuple[str, ...]

    @property
    def time_error(self) -> float | None:
        """Of step time: above zero where the planner is too pessimistic."""
        measured = self.case.tokens_per_s_gpu
        return None if measured is None else measured / self.tokens_per_s_gpu - 1

    @property
    def memory_error(self) -> float | None:
        measured = self.case.memory_gib
        return None if measured is None else self.memory_gib / measured - 1


def completions(case: Case) -> tuple[Layouts, tuple[str, ...]]:
    """All layouts that a table's row can mean: what it states held fixed, what it leaves out varied."""
    stated = case.stated
    dp = int(stated["dp"])
    batch = case.global_seqs
    micro = (
        [int(stated["mbs"])]
        if "mbs" in stated
        else [size for size in (1, 2, 4, 8, 16) if batch is None or (batch % (dp * size) == 0)] or [1]
    )
    per_stage = max(1, case.shape.num_layers // int(stated["pp"]))
    virtual = [int(stated["vp"])] if "vp" in stated else [v for v in range(1, min(8, per_stage) + 1) if per_stage % v == 0]
    recompute = [str(stated["recompute"])] if "recompute" in stated else list(RECOMPUTE)
    tables = [
        Layouts.one(
            tp=int(stated["tp"]), pp=int(stated["pp"]), cp=int(stated["cp"]), dp=dp,
            sp=bool(stated["sp"]) and int(stated["tp"]) > 1,
            zero=int(stated["zero"]), vp=v, mbs=size, recompute=kind,
            num_microbatches=max(1, (batch or dp * size) // (dp * size)),
        )
        for size in micro for v in virtual for kind in recompute
        if v == 1 or ((batch or dp * size) // (dp * size)) % int(stated["pp"]) == 0 or "vp" in stated
    ]  # fmt: skip
    table = Layouts(*(np.concatenate([getattr(one, column.name) for one in tables]) for column in fields(Layouts)))
    inferred = tuple(key for key in ("mbs", "vp", "recompute") if key not in stated)
    return table, inferred


def predict(case: Case, calibration: Calibration) -> Prediction:
    """The planner's word on one published run."""
    table, inferred = completions(case)
    time = step_time(case.shape, table, case.engine, case.hardware, calibration, precision=case.precision)
    total = totals(case.shape, table, case.engine, case.hardware)
    verdicts = fit_verdict(total, table, case.hardware)
    cost = time.step_s / (table.num_microbatches * table.mbs) * (1 + 0.004 * table.vp) + 1e6 * (verdicts == "no")
    best = int(np.argmin(cost))
    tokens = table.num_microbatches[best] * table.mbs[best] * table.dp[best] * case.shape.seq_tokens
    chosen = {"allocated": total.allocated, "reserved": total.reserved}[case.memory_kind]
    step = float(time.step_s[best])
    return Prediction(
        case=case, layouts=table[best], step_s=step, tokens_per_s_gpu=float(tokens / step / case.num_gpus),
        memory_gib=float(chosen[best]) * calibration.memory_scale / 2**30, verdict=str(verdicts[best]), inferred=inferred,
    )  # fmt: skip


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation of two lists (tau-a): concordant minus discordant pairs over all pairs."""
    signs = [np.sign(first[i] - first[j]) * np.sign(second[i] - second[j]) for i in range(len(first)) for j in range(i)]
    return float(np.mean(signs)) if signs else float("nan")


@dataclass(frozen=True)
class Summary:
    """Absolute errors of a set of predictions, as fractions."""

    name: str
    num_time: int
    time_mape_frac: float
    time_median_frac: float
    time_p90_frac: float
    time_bias_frac: float
    num_memory: int
    memory_mape_frac: float
    kendall_tau: float
    num_called_out_of_memory: int
    """Runs that ran."""
    num_called_fitting: int
    """Runs that ran out of memory."""


def summarise(name: str, predictions: list[Prediction]) -> Summary:
    times = np.array([p.time_error for p in predictions if p.time_error is not None])
    memories = np.array([p.memory_error for p in predictions if p.memory_error is not None])
    timed = [p for p in predictions if p.case.tokens_per_s_gpu is not None]
    share = lambda p, rate: rate * p.case.shape.flops_per_token() / p.case.hardware.peak_flops(p.case.precision)  # noqa: E731
    tau = kendall_tau(
        np.array([share(p, p.tokens_per_s_gpu) for p in timed]), np.array([share(p, p.case.tokens_per_s_gpu) for p in timed])
    )
    none = float("nan")
    return Summary(
        name=name, num_time=len(times), num_memory=len(memories),
        time_mape_frac=float(np.mean(np.abs(times))) if len(times) else none,
        time_median_frac=float(np.median(np.abs(times))) if len(times) else none,
        time_p90_frac=float(np.percentile(np.abs(times), 90)) if len(times) else none,
        time_bias_frac=float(np.mean(times)) if len(times) else none,
        memory_mape_frac=float(np.mean(np.abs(memories))) if len(memories) else none,
        kendall_tau=tau, num_called_out_of_memory=sum(p.verdict == "no" and not p.case.ran_out_of_memory for p in predictions),
        num_called_fitting=sum(p.verdict == "fits" and p.case.ran_out_of_memory for p in predictions),
    )  # fmt: skip


def sweep_position(case: Case, calibration: Calibration) -> tuple[int, float]:
    """For a published best of a sweep: its place in the planner's own ranking of what the sweep could run (1 is the first),
    and the predicted step time of the planner's first over that of the published layout.

    A place counts layouts of other (tp, pp, micro batch) that are predicted faster than the published one, each by its best
    ZeRO stage; equal predictions share a place.
    """
    stated = case.stated
    table = legal_layouts(
        case.shape, case.engine, case.hardware, num_gpus=case.num_gpus, global_seqs=case.global_seqs or 256, context=False,
        offload=False,
    )  # fmt: skip
    table = table[np.flatnonzero(table.recompute == RECOMPUTE.index(str(stated.get("recompute", "none"))))]
    fits = fit_verdict(totals(case.shape, table, case.engine, case.hardware), table, case.hardware) != "no"
    table = table[np.flatnonzero(fits)]
    step = step_time(case.shape, table, case.engine, case.hardware, calibration, precision=case.precision).step_s
    best: dict[tuple[int, ...], float] = {}
    for tp, pp, mbs, seconds in zip(table.tp.tolist(), table.pp.tolist(), table.mbs.tolist(), step.tolist()):
        best[tp, pp, mbs] = min(seconds, best.get((tp, pp, mbs), np.inf))
    own = best.get(tuple(int(stated[key]) for key in ("tp", "pp", "mbs")), np.inf)
    return 1 + sum(seconds < own for seconds in best.values()), min(best.values()) / own
