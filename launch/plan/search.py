"""From a model, a cluster and a batch to ranked layouts, and why their neighbours lost.

plan = search(Problem(shape, WINDTUNNEL, cluster, global_seqs=960), calibration)
plan.best.label(), plan.neighbours
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from launch.plan.calibration import Calibration
from launch.plan.errors import PlanError
from launch.plan.hardware import GIB, HEADROOM_FRAC, Cluster, builtin
from launch.plan.memory import NOT_MODELLED, Totals, fit_verdict, totals
from launch.plan.shapes import Engine, Layouts, ModelShape
from launch.plan.space import MICRO_SEQS, illegal_reason, legal_layouts
from launch.plan.steptime import StepTime, step_time


@dataclass(frozen=True)
class Problem:
    """What is to be planned."""

    shape: ModelShape
    engine: Engine
    cluster: Cluster
    global_seqs: int
    precision: str = "bf16"
    micro_seqs: tuple[int, ...] = field(default=MICRO_SEQS)
    offload: bool = True
    ramp_seqs: tuple[int, ...] = ()
    """Smaller batches that the recipe passes through: dp·mbs must divide them too."""

    @property
    def tokens_per_step(self) -> int:
        return self.global_seqs * self.shape.seq_tokens


@dataclass(frozen=True)
class Candidate:
    """One layout, priced. Seconds a step, bytes on the fullest rank."""

    layouts: Layouts
    step_s: float
    parts_s: dict[str, float]
    allocated_bytes: float
    reserved_bytes: float
    device_bytes: float
    peak_stage: int
    peak_phase: str
    verdict: str
    tokens_per_s: float
    mfu_6n_frac: float
    mfu_attention_frac: float

    def label(self) -> str:
        return self.layouts.label(0)


@dataclass(frozen=True)
class Neighbour:
    """A layout one change away from the best, and why it lost."""

    change: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The answer: candidates from the fastest on, three picks among them, and the fate of the best one's neighbours."""

    problem: Problem
    ranked: tuple[Candidate, ...]
    num_legal: int
    num_fit: int
    leanest: Candidate
    robust: Candidate | None
    neighbours: tuple[Neighbour, ...]
    not_modelled: tuple[str, ...] = NOT_MODELLED

    @property
    def best(self) -> Candidate:
        return self.ranked[0]


def price(problem: Problem, layouts: Layouts, calibration: Calibration) -> list[Candidate]:
    """Every row of a table as a candidate, in the table's order."""
    hardware = problem.cluster.hardware
    time = step_time(problem.shape, layouts, problem.engine, hardware, calibration, precision=problem.precision)
    total = totals(problem.shape, layouts, problem.engine, hardware, scale=calibration.memory_scale)
    return _candidates(problem, layouts, time, total, range(len(layouts)))


def _candidates(problem: Problem, layouts: Layouts, time: StepTime, total: Totals, rows) -> list[Candidate]:
    hardware, shape = problem.cluster.hardware, problem.shape
    verdicts = fit_verdict(total, layouts, hardware)
    peak = hardware.peak_flops(problem.precision)
    step = time.step_s
    found = []
    for row in rows:
        tokens = int(layouts.num_microbatches[row] * layouts.mbs[row] * layouts.dp[row]) * shape.seq_tokens
        rate = tokens / float(step[row])
        per_flop = rate / int(layouts.num_gpus[row]) / peak
        found.append(Candidate(
            layouts=layouts[row], step_s=float(step[row]),
            parts_s={name: float(part[row]) for name, part in time.parts.items()},
            allocated_bytes=float(total.allocated[row]), reserved_bytes=float(total.reserved[row]),
            device_bytes=float(total.device[row]), peak_stage=int(total.peak_stage[row]), peak_phase=str(total.peak_phase[row]),
            verdict=str(verdicts[row]), tokens_per_s=rate, mfu_6n_frac=per_flop * shape.flops_per_token(convention="6N"),
            mfu_attention_frac=per_flop * shape.flops_per_token(),
        ))  # fmt: skip
    return found


def search(problem: Problem, calibration: Calibration, *, top: int = 10) -> Plan:
    """
    Raises:
        PlanError: no layout is legal, or none fits (the message says what would, and by how much).
    """
    cluster, shape, engine = problem.cluster, problem.shape, problem.engine
    legal = legal_layouts(
        shape, engine, cluster.hardware, num_gpus=cluster.num_gpus, global_seqs=problem.global_seqs,
        micro_seqs=problem.micro_seqs, offload=problem.offload, ramp_seqs=problem.ramp_seqs,
    )  # fmt: skip
    if not len(legal):
        raise PlanError(_no_legal(problem))
    total = totals(shape, legal, engine, cluster.hardware, scale=calibration.memory_scale)
    verdicts = fit_verdict(total, legal, cluster.hardware)
    if not (fits := np.flatnonzero(verdicts == "fits")).size:
        raise PlanError(_nothing_fits(problem, legal, total, scale=calibration.memory_scale))
    fitting = legal[fits]
    time = step_time(shape, fitting, engine, cluster.hardware, calibration, precision=problem.precision)
    order = _order(fitting, time.step_s)
    total_fit = Totals(
        *(getattr(total, name)[fits] for name in ("allocated", "reserved", "device", "peak_stage", "peak_phase"))
    )
    ranked = _candidates(problem, fitting, time, total_fit, _distinct(fitting, order)[:top])
    near = order[time.step_s[order] <= 1.1 * time.step_s[order[0]]]
    near = near[fitting.offload[near] == fitting.offload[near].min()]
    leanest = near[np.argmin(total_fit.device[near])]
    robust = _robust(problem, fitting[order[:200]], calibration)
    return Plan(
        problem=problem, ranked=tuple(ranked), num_legal=len(legal), num_fit=len(fitting),
        leanest=_candidates(problem, fitting, time, total_fit, [leanest])[0],
        robust=robust, neighbours=tuple(neighbours(problem, ranked[0], calibration)),
    )  # fmt: skip


def _order(layouts: Layouts, step_s: np.ndarray) -> np.ndarray:
    """Fastest first; within one part in a thousand the simpler layout (fewer degrees, lower ZeRO, no recomputation)."""
    rounded = np.round(np.log(step_s) * 1000)
    return np.lexsort(
        (layouts.recompute, layouts.offload, layouts.zero, layouts.vp, layouts.pp, layouts.tp * layouts.cp, rounded)
    )


def _distinct(layouts: Layouts, order: np.ndarray) -> np.ndarray:
    """Of layouts that differ only in ZeRO stage or offload, the first in the order."""
    apart = [getattr(layouts, name)[order] for name in ("tp", "pp", "vp", "cp", "mbs", "recompute")]
    return order[np.sort(np.unique(np.stack(apart), axis=1, return_index=True)[1])]


def _robust(problem: Problem, layouts: Layouts, calibration: Calibration) -> Candidate | None:
    """The layout that is fastest once a node is gone: same tp, pp, cp; dp and the number of microbatches follow."""
    hardware = problem.cluster.hardware
    left = problem.cluster.num_gpus - hardware.gpus_per_node
    model = layouts.tp * layouts.pp * layouts.cp
    dp = left // model
    keep = (dp >= 1) & (problem.global_seqs % np.maximum(1, dp * layouts.mbs) == 0)
    if left < 1 or not keep.any():
        return None
    rows = np.flatnonzero(keep)
    fewer = layouts[rows]
    fewer = replace(fewer, dp=dp[rows], num_microbatches=problem.global_seqs // (dp[rows] * fewer.mbs))
    after = step_time(problem.shape, fewer, problem.engine, hardware, calibration, precision=problem.precision).step_s
    total = totals(problem.shape, fewer, problem.engine, hardware, scale=calibration.memory_scale)
    ok = fit_verdict(total, fewer, hardware) == "fits"
    ok &= (fewer.vp == 1) | (fewer.num_microbatches % fewer.pp == 0)
    if not ok.any():
        return None
    return price(problem, layouts[rows[np.argmin(np.where(ok, after, np.inf))]], calibration)[0]


CHANGES = (  # factors; for ZeRO steps, for recomputation values
    ("tp", 2), ("tp", 0.5), ("pp", 2), ("pp", 0.5), ("vp", 2), ("vp", 0.5), ("cp", 2), ("mbs", 2), ("mbs", 0.5),
    ("zero", 1), ("zero", -1), ("recompute", "none"), ("recompute", "full"),
)  # fmt: skip


def neighbours(problem: Problem, best: Candidate, calibration: Calibration) -> list[Neighbour]:
    """Layouts one change away from the best, each with the reason why it lost."""
    found = []
    for key, change in CHANGES:
        row = best.layouts.row(0)
        value: Any = change if isinstance(change, str) else row[key] + change if key == "zero" else int(row[key] * change)
        if value == row[key] or (key == "zero" and not 0 <= value <= 3) or (key != "zero" and value == 0):
            continue
        found.append(_judge(problem, best, row, key, value, calibration))
    return found


def _judge(problem: Problem, best: Candidate, row: dict, key: str, value: int | str, calibration: Calibration) -> Neighbour:
    changed = {name: row[name] for name in ("tp", "pp", "vp", "cp", "zero", "mbs", "recompute")} | {key: value}
    degrees = {name: changed[name] for name in ("tp", "pp", "vp", "cp", "zero", "mbs")}
    gpus, text = problem.cluster.num_gpus, f"{key} {row[key]} → {value}"
    why = illegal_reason(problem.shape, problem.engine, **degrees, num_gpus=gpus, global_seqs=problem.global_seqs,
                         ramp_seqs=problem.ramp_seqs)  # fmt: skip
    if why:
        return Neighbour(text, "not possible", why)
    dp = gpus // (changed["tp"] * changed["pp"] * changed["cp"])
    layouts = Layouts.one(**changed, dp=dp, num_microbatches=problem.global_seqs // (dp * changed["mbs"]))
    other = price(problem, layouts, calibration)[0]
    limit = problem.cluster.hardware.usable_bytes
    if other.verdict != "fits":
        over = (other.device_bytes - limit) / GIB
        return Neighbour(
            text,
            "too large",
            f"{over:.1f} GiB over the {limit / GIB:.1f} usable, at stage {other.peak_stage} in {other.peak_phase}",
        )
    slower = other.step_s / best.step_s - 1
    grown = {name: other.parts_s[name] - best.parts_s[name] for name in best.parts_s}
    worst = max(grown, key=lambda name: grown[name])
    if slower <= 0.001:
        more = (other.device_bytes - best.device_bytes) / GIB
        memory = f"{more:.1f} GiB more" if more >= 0.05 else f"{-more:.1f} GiB less" if more <= -0.05 else "as much memory"
        gain = round(-100 * slower, 1) + 0.0  # no negative zero
        return Neighbour(text, "as fast", f"{gain:+.1f} % throughput, {memory}")
    return Neighbour(text, "slower", f"{100 * slower:.1f} % slower: {worst} costs {1e3 * grown[worst]:.0f} ms more a step")


def _no_legal(problem: Problem) -> str:
    gpus, seqs = problem.cluster.num_gpus, problem.global_seqs
    near = sorted({size for size in range(max(1, gpus // 2), 2 * gpus + 1) if seqs % size == 0 or size % seqs == 0})[:6]
    return (
        f"no layout divides {gpus} GPUs, {problem.shape.num_heads} heads ({problem.shape.num_kv_heads} key-value), "
        f"{problem.shape.num_layers} layers and a batch of {seqs} sequences at once; "
        f"numbers of GPUs that divide the batch: {', '.join(map(str, near)) or 'none near'}"
    )


def _nothing_fits(problem: Problem, legal: Layouts, total: Totals, *, scale: float) -> str:
    """The smallest of all layouts, by how much it misses, and the least changes that make one fit."""
    cluster, limit = problem.cluster, problem.cluster.hardware.usable_bytes
    least = int(np.argmin(total.device))
    text = (
        f"no layout fits {cluster.num_gpus} × {cluster.hardware.name} "
        f"({limit / GIB:.1f} GiB usable each, {100 * HEADROOM_FRAC:g} % kept free): "
        f"the leanest, {legal.label(least)}, "
        f"needs {total.device[least] / GIB:.1f} GiB, {(total.device[least] - limit) / GIB:.1f} too many"
    )
    options = []
    for factor in (2, 3, 4, 6, 8, 12, 16, 32, 64):
        if (smallest := _smallest(problem, cluster.with_gpus(factor * cluster.num_gpus), scale=scale)) and smallest <= limit:
            options.append(f"{factor * cluster.num_gpus} GPUs (then {(limit - smallest) / GIB:.1f} GiB are free)")
            break
    if larger := [
        device.name for device in builtin().values() if device.kind == "gpu" and device.usable_bytes >= total.device[least]
    ]:
        options.append(f"GPUs with more memory ({', '.join(larger[:4])})")
    savers = {
        "ZeRO-3": legal.zero == 3, "full recomputation": legal.recompute == 2, "a micro batch of 1": legal.mbs == 1,
        "optimizer offload": legal.offload == 1,
    }  # fmt: skip
    both = {name: rows for name, rows in savers.items() if 0 < rows.mean() < 1}
    apart = {name: (total.device[rows].min(), total.device[~rows].min()) for name, rows in both.items()}
    named = [f"{name} {best / GIB:.1f} ({other / GIB:.1f})" for name, (best, other) in apart.items() if best < other]
    fitting = "; ".join(options) or "a smaller model or shorter sequences"
    return f"{text}; what would fit: {fitting}. The leanest layout's GiB with each of (and without): {', '.join(named)}"


def _smallest(problem: Problem, cluster: Cluster, *, scale: float) -> float | None:
    seqs = problem.global_seqs
    legal = legal_layouts(
        problem.shape, problem.engine, cluster.hardware, num_gpus=cluster.num_gpus, global_seqs=seqs, micro_seqs=(1,)
    )
    total = totals(problem.shape, legal, problem.engine, cluster.hardware, scale=scale)
    return float(total.device.min()) if len(legal) else None
