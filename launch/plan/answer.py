"""A plan in words and numbers: the JSON that programs read and the tables that people read, with days, energy and cost.

print(json.dumps(as_json(candidate, problem, ...)))
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launch.plan.calibration import Calibration
from launch.plan.engines import for_recipe
from launch.plan.errors import PlanError
from launch.plan.hardware import Cluster, Hardware, find
from launch.plan.memory import PHASES, rank_memory
from launch.plan.recipe import Prices, batches, command, stage_costs, whole
from launch.plan.search import Candidate, Plan, Problem
from launch.plan.shapes import RECOMPUTE, Layouts
from launch.plan.space import divisors, illegal_reason
from recipe.units import format_count

if TYPE_CHECKING:
    from recipe.config import RunConfig

VALIDATED_GPUS = ("a100", "h100")
KEYS = ("tp", "pp", "vp", "cp", "dp", "sp", "zero", "mbs", "recompute", "offload")


def outside_validation(problem: Problem, layouts: Layouts) -> list[str]:
    """What of a plan lies outside the published runs that it was judged on."""
    shape, hardware, row = problem.shape, problem.cluster.hardware, layouts.row(0)
    checks = (
        (not hardware.name.startswith(VALIDATED_GPUS), f"GPU {hardware.name} (validated: A100, H100)"),
        (not 7e8 <= shape.num_params <= 1.1e12, f"{format_count(shape.num_params)} parameters (validated: 0.76B to 1T)"),
        (not 2048 <= shape.seq_tokens <= 8192, f"sequences of {shape.seq_tokens} tokens (validated: 2,048 to 8,192)"),
        (not 8 <= problem.cluster.num_gpus <= 6144, f"{problem.cluster.num_gpus} GPUs (validated: 8 to 6,144)"),
        (row["cp"] > 1, "context parallelism"),
        (bool(row["offload"]), "optimizer offload"),
        (problem.precision not in ("bf16", "fp16"), f"precision {problem.precision}"),
        (
            problem.engine.name == "windtunnel",
            "this engine's own speed on GPUs (memory: checked against traces; time: by analogy)",
        ),
    )
    return [text for wrong, text in checks if wrong]


def parse_layout(text: str, *, defaults: dict[str, Any], num_gpus: int, global_seqs: int) -> Layouts:
    """`tp=8,pp=2,mbs=1,...`; degrees that aren't named are 1, the rest as the recipe has it; dp is what remains.

    Raises:
        PlanError: an unknown key, a value that is none, or degrees that don't multiply to the GPUs.
    """
    values: dict[str, Any] = dict(defaults)
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, _, value = part.partition("=")
        if key not in KEYS:
            raise PlanError(f"--layout: unknown key {key!r}; known: {', '.join(KEYS)}")
        if key == "recompute":
            if value not in RECOMPUTE:
                raise PlanError(f"--layout: recompute={value!r}; one of {', '.join(RECOMPUTE)}")
            values[key] = value
        elif value.lower() in ("true", "false", "on", "off"):
            values[key] = value.lower() in ("true", "on")
        elif value.isdigit():
            values[key] = int(value)
        else:
            raise PlanError(f"--layout: {key}={value!r} is not a whole number")
    model = values.get("tp", 1) * values.get("pp", 1) * values.get("cp", 1)
    if model < 1 or num_gpus % model:
        raise PlanError(f"--layout: tp·pp·cp={model} does not divide {num_gpus} GPUs")
    dp = num_gpus // model
    if values.setdefault("dp", dp) != dp:
        raise PlanError(f"--layout: dp={values['dp']}, but {num_gpus} GPUs over tp·pp·cp={model} leave dp={dp}")
    if values["mbs"] < 1 or global_seqs % (dp * values["mbs"]):
        sizes = [str(size) for size in divisors(global_seqs // dp)][:8] if global_seqs % dp == 0 else []
        near = f"; mbs that does: {', '.join(sizes)}" if sizes else f"; nor does dp={dp} alone: other tp, pp or cp would"
        raise PlanError(f"--layout: dp·mbs={dp}·{values['mbs']} does not divide the batch of {global_seqs} sequences{near}")
    for key in ("sp", "offload"):
        values[key] = bool(values[key]) if key in values else None
    values["offload"] = bool(values["offload"])
    return Layouts.one(**values, num_microbatches=global_seqs // (dp * values["mbs"]))


def stages_of_memory(candidate: Candidate, problem: Problem) -> list[dict[str, Any]]:
    """Every pipeline stage: bytes by term at its own peak."""
    engine = problem.engine
    found = []
    for stage in range(int(candidate.layouts.pp[0])):
        memory = rank_memory(problem.shape, candidate.layouts, engine, stage=stage)
        phases = memory.phases()
        phase = max(PHASES, key=lambda name: float(phases[name][0]))
        terms = {name: float(size[0]) for name, size in memory.at(phase).items() if float(size[0]) > 0}
        found.append({"stage": stage, "phase": phase, "allocated_bytes": sum(terms.values()), "terms_bytes": terms})
    return found


def refusal(candidate: Candidate, problem: Problem) -> str | None:
    """Why the engine would not run this layout; None where it would."""
    row = candidate.layouts.row(0)
    degrees = {name: row[name] for name in ("tp", "pp", "vp", "cp", "zero", "mbs")}
    return illegal_reason(
        problem.shape, problem.engine, **degrees, num_gpus=problem.cluster.num_gpus, global_seqs=problem.global_seqs,
        ramp_seqs=problem.ramp_seqs,
    )  # fmt: skip


def candidate_json(candidate: Candidate, problem: Problem, *, stages: bool = True) -> dict[str, Any]:
    """One layout's prediction."""
    return {
        "layout": candidate.layouts.row(0), "label": candidate.label(), "fits": candidate.verdict,
        "refused": refusal(candidate, problem),
        "step_s": candidate.step_s, "tokens_per_s": candidate.tokens_per_s,
        "tokens_per_s_gpu": candidate.tokens_per_s / problem.cluster.num_gpus,
        "mfu_6n_frac": candidate.mfu_6n_frac, "mfu_attention_frac": candidate.mfu_attention_frac,
        "parts_s": candidate.parts_s,
        "memory_bytes": {
            "allocated": candidate.allocated_bytes, "reserved": candidate.reserved_bytes, "device": candidate.device_bytes,
            "usable": problem.cluster.hardware.usable_bytes, "limit": problem.cluster.hardware.memory_bytes,
        },
        "peak": {"stage": candidate.peak_stage, "phase": candidate.peak_phase},
        "stages": stages_of_memory(candidate, problem) if stages else [],
        "outside_validation": outside_validation(problem, candidate.layouts),
    }  # fmt: skip


def plan_json(
    plan: Plan, config: "RunConfig", *, recipe: str, calibration: Calibration, prices: Prices, site: str = "SITE"
) -> dict[str, Any]:  # fmt: skip
    """The whole answer."""
    problem = plan.problem
    nodes = -(-problem.cluster.num_gpus // problem.cluster.hardware.gpus_per_node)
    costs = stage_costs(plan.best, problem, config, calibration, prices)
    picks = {"fastest": plan.best, "leanest": plan.leanest, "robust": plan.robust}
    return {
        "cluster": {"gpu": problem.cluster.hardware.name, "num_gpus": problem.cluster.num_gpus},
        "num_legal": plan.num_legal,
        "num_fit": plan.num_fit,
        "command": command(plan.best, config, recipe=recipe, nodes=nodes, site=site),
        "ranked": [candidate_json(one, problem, stages=index == 0) for index, one in enumerate(plan.ranked)],
        "picks": {name: one.label() if one else None for name, one in picks.items()},
        "picks_detail": {
            name: {"step_s": one.step_s, "device_bytes": one.device_bytes} for name, one in picks.items() if one
        },
        "neighbours": [vars(one) for one in plan.neighbours],
        "stages_of_recipe": costs, "recipe": whole(costs), "not_modelled": list(plan.not_modelled),
    }  # fmt: skip


def device_of_site(name: str, *, num_gpus: int, gpu: str = "") -> Hardware:
    """The device of a site file or example, in the site's own nodes. gpu: instead of the site's.

    Raises:
        PlanError: the site doesn't say which device it has, or has fewer.
        ClusterError: no such site, or a file that can't be right.
    """
    from launch.cluster import load_site

    site = load_site(name)
    kind, *rest = (site.gres or "").split(":")
    typed = rest[0].split("(")[0] if kind == "gpu" and len(rest) > 1 else ""
    device = gpu or site.gpu or ("cpu-node" if site.accelerator == "cpu" else typed)
    if not device:
        raise PlanError(f"--cluster {name}: the site names no device; add gpu: to the file, h100-sxm say, or give --gpu")
    if site.max_nodes and num_gpus > site.max_nodes * site.processes_per_node:
        most = site.max_nodes * site.processes_per_node
        raise PlanError(f"--gpus {num_gpus}: {name} takes max_nodes={site.max_nodes} of {site.processes_per_node}, so {most}")
    return replace(find(device), gpus_per_node=site.processes_per_node)


def problem_of(config: "RunConfig", *, gpu: str | Hardware, num_gpus: int, engine: str, global_seqs: int = 0) -> Problem:
    """
    Raises:
        PlanError: an impossible cluster or an unknown device or engine.
    """
    from launch.plan.engines import engine_named
    from launch.plan.shapes import ModelShape

    hardware = find(gpu) if isinstance(gpu, str) else gpu
    if num_gpus < 1:
        raise PlanError(f"--gpus {num_gpus}: at least 1")
    if config.precision not in hardware.peak_tflops:
        raise PlanError(f"{hardware.name} has no {config.precision}, the recipe's precision; it can train -o precision=fp32")
    if num_gpus > hardware.gpus_per_node and num_gpus % hardware.gpus_per_node:
        below = num_gpus // hardware.gpus_per_node * hardware.gpus_per_node
        raise PlanError(
            f"--gpus {num_gpus}: {hardware.name} nodes have {hardware.gpus_per_node}; nearest: {below}, {below + hardware.gpus_per_node}"  # noqa: E501
        )
    shape = ModelShape.of_recipe(config.longest_model)
    seqs, rest = divmod(config.batch.global_tokens, shape.seq_tokens)
    if rest and not global_seqs:
        below = seqs * shape.seq_tokens
        raise PlanError(
            f"batch.global_tokens={config.batch.global_tokens} is no multiple of seq_length_tokens={shape.seq_tokens}; "
            f"nearest: {', '.join(str(size) for size in (below, below + shape.seq_tokens) if size)}"
        )
    seqs = global_seqs or seqs
    ramp = () if global_seqs else tuple(size for size in batches(config) if size != seqs)
    chosen = for_recipe(engine_named(engine), config, on_cpu=hardware.kind == "cpu")
    return Problem(
        shape,
        chosen,
        Cluster(hardware, num_gpus),
        seqs,
        precision=config.precision,
        offload=hardware.kind != "cpu",
        ramp_seqs=ramp,
    )  # a CPU's memory is what others offload to


def default_calibration() -> Calibration:
    """What the published runs taught (launch/plan/calibrated.json, written by `make bench-plan`)."""
    from pathlib import Path

    return Calibration.load(Path(__file__).parent / "calibrated.json")
