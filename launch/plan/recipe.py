"""Between recipes and plans: a layout in the recipe's words, the batches of its ramps, what each of its stages will take.

stage_costs(candidate, problem, config, calibration, prices)     # {"stable": {"days": …, "gpu_hours": …}, …}
"""

from dataclasses import dataclass, replace
from typing import Any

from launch.plan.calibration import Calibration
from launch.plan.search import Candidate, Problem, price
from recipe.config import RunConfig
from recipe.errors import ConfigError
from recipe.resolve import resolve

TOKENIZE_TOKENS_PER_S = 50e6 / 2.6  # a core: 50 MB/s of JSON lines, 2.6 bytes a token (data_prep/README.md, Measured)
TOKENIZE_CORES = 32  # of one CPU node, where a stage's tokenizing is given in days


@dataclass(frozen=True)
class Prices:
    """What an hour and a kilowatt-hour cost, in any currency; zero: not stated."""

    per_gpu_hour: float = 0.0
    per_kwh: float = 0.0


def layout_changes(candidate: Candidate) -> dict[str, dict[str, Any]]:
    """A layout in the recipe's words: sections `parallel` and `batch`."""
    row = candidate.layouts.row(0)
    parallel = {key: row[key] for key in ("tp", "pp", "vp", "cp", "sp", "zero", "recompute")}
    return {"parallel": parallel | {"offload_optimizer": row["offload"]}, "batch": {"micro_seqs": row["mbs"]}}


def with_layout(config: RunConfig, candidate: Candidate) -> RunConfig:
    """The recipe in another layout."""
    content = config.model_dump()
    changes = layout_changes(candidate)
    content["parallel"] = changes["parallel"]
    content["batch"] |= changes["batch"]
    return RunConfig.model_validate(content)


def command(candidate: Candidate, config: RunConfig, *, recipe: str, nodes: int, site: str = "SITE") -> str:
    """What trains the recipe in a layout, with the values that differ from the recipe's own."""
    changes, ours = layout_changes(candidate), config.model_dump()
    options = [
        f"{section}.{key}={str(value).lower()}"
        for section, values in changes.items()
        for key, value in values.items()
        if value != ours[section][key]
    ]
    if config.parallel.layers_per_stage:
        options.append("parallel.layers_per_stage=null")
    return " ".join([f"windtunnel submit {recipe} --cluster {site} --nodes {nodes}", *(f"-o {one}" for one in options)])


def batches(config: RunConfig) -> tuple[int, ...]:
    """Every batch size that the recipe's ramps pass through, in sequences; empty where it has no stages."""
    content = config.model_dump() | {"parallel": {"zero": 0}}
    content["batch"] |= {"micro_seqs": 1}
    try:
        stages = resolve(RunConfig.model_validate(content), world_size=1).stages
    except ConfigError:
        return ()  # training refuses this recipe itself, with the reason
    return tuple(sorted({segment.batch_seqs for stage in stages for segment in stage.segments}))


def stage_costs(
    candidate: Candidate, problem: Problem, config: RunConfig, calibration: Calibration, prices: Prices
) -> dict[str, dict[str, float]]:
    """Days, GPU hours, energy and cost of each stage, every batch of its ramp at its own speed, and of its tokenizing."""
    found: dict[str, dict[str, float]] = {}
    try:
        stages = resolve(with_layout(config, candidate), world_size=problem.cluster.num_gpus).stages
    except ConfigError:  # a layout of another engine, or one that a ramp's batch doesn't divide: the full batch throughout
        for one in config.stages:
            found[one.name] = _cost(problem, prices, seconds=one.tokens / candidate.tokens_per_s, tokens=one.tokens)
        return found
    for stage in stages:
        shape = replace(problem.shape, seq_tokens=config.model_at(stage.name).seq_length_tokens)
        here = replace(problem, shape=shape)
        seconds = sum(
            part.num_steps * _step_s(candidate, problem, here, calibration, part.batch_seqs) for part in stage.segments
        )
        found[stage.name] = _cost(problem, prices, seconds=seconds, tokens=stage.end_tokens - stage.start_tokens)
    return found


def _step_s(candidate: Candidate, problem: Problem, here: Problem, calibration: Calibration, batch_seqs: int) -> float:
    """Of a step of so many sequences in a stage (`here`: with its sequence length)."""
    layouts = candidate.layouts
    if here == problem and batch_seqs == problem.global_seqs:
        return candidate.step_s
    fewer = replace(layouts, num_microbatches=batch_seqs // (layouts.dp * layouts.mbs))
    return price(replace(here, global_seqs=batch_seqs), fewer, calibration)[0].step_s


def _cost(problem: Problem, prices: Prices, *, seconds: float, tokens: float) -> dict[str, float]:
    gpus, hardware = problem.cluster.num_gpus, problem.cluster.hardware
    hours = seconds / 3600 * gpus
    kwh = hours * hardware.power_w / 1000
    cores = tokens / TOKENIZE_TOKENS_PER_S / 3600
    return {
        "tokens": float(tokens), "days": seconds / 86400, "gpu_hours": hours, "energy_kwh": kwh,
        "cost": hours * (prices.per_gpu_hour or hardware.price_per_hour or 0.0) + kwh * prices.per_kwh,
        "tokenize_core_hours": cores, "tokenize_days": cores / TOKENIZE_CORES / 24,
    }  # fmt: skip


def whole(costs: dict[str, dict[str, float]]) -> dict[str, float]:
    """The sum over stages."""
    names = dict.fromkeys(name for one in costs.values() for name in one)
    return {name: sum(one[name] for one in costs.values()) for name in names}
