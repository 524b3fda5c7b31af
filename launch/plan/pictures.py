"""A plan in three pictures: memory by term against the device's limit, throughput against GPUs, the pipeline's timeline.

save(answer, found, calibration, out=Path("plan"))     # plan.json too
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.atomic import replacing, write_json
from launch.plan.answer import stages_of_memory
from launch.plan.calibration import Calibration
from launch.plan.errors import PlanError
from launch.plan.hardware import GIB
from launch.plan.search import Candidate, Plan, Problem, search
from launch.plan.timeline import idle_frac, stage_seconds, timeline
from recipe.units import format_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEMORY, THROUGHPUT, TIMELINE = "memory.svg", "throughput.svg", "pipeline.svg"
SMALL_FRAC = 0.01  # terms under this share of a stage are drawn together
NEAR_FRAC = 0.2  # of the limit; where less is used, the axis ends at what is used
DRAWN_MICROBATCHES = 4  # for each stage: more would be lines


def save(
    answer: dict[str, Any], plan: Plan, calibration: Calibration, *, out: Path, of: Candidate | None = None
) -> dict[str, Any]:
    """Writes the pictures and the plan's JSON, which names them, last; returns it."""
    named = answer | {"pictures": [str(path) for path in draw(plan, calibration, out=out, of=of)]}
    write_json(out / "plan.json", named)
    return named


def draw(plan: Plan, calibration: Calibration, *, out: Path, of: Candidate | None = None) -> list[Path]:
    """Writes the three pictures (SVG, for any page), each whole or not at all; returns their paths.

    Args:
        plan: Whose throughput is drawn.
        calibration: It was made with.
        out: Folder.
        of: The layout whose memory and pipeline are drawn; the plan's best where None.
    """
    from matplotlib import rc_context

    out.mkdir(parents=True, exist_ok=True)
    shown = of or plan.best
    figures = {
        MEMORY: memory_figure(shown, plan.problem),
        THROUGHPUT: throughput_figure(plan.problem, calibration),
        TIMELINE: timeline_figure(shown, plan, calibration),
    }
    for name, figure in figures.items():
        with replacing(out / name) as file, rc_context({"svg.hashsalt": name}):  # equal plans, equal files
            figure.savefig(file, format="svg", metadata={"Date": None})
    return [out / name for name in figures]


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def memory_figure(shown: Candidate, problem: Problem) -> "Figure":
    """Bytes by term on the first, a middle and the last stage; lines where the device and what a plan may use of it end."""
    hardware = problem.cluster.hardware
    stages = stages_of_memory(shown, problem)
    drawn = sorted({0, len(stages) // 2, shown.peak_stage, len(stages) - 1})
    names = list(dict.fromkeys(name for index in drawn for name in _large(stages[index]["terms_bytes"])))
    outside = shown.device_bytes - shown.allocated_bytes
    figure = _figure(10, 2.6 + 0.55 * len(drawn) + 0.16 * len(names))
    axes = figure.subplots()
    left = [0.0] * len(drawn)
    labels = [f"stage {index}" for index in drawn]
    for place, name in enumerate([*names, "small terms", "allocator, context, communicators"]):
        sizes = [_size(stages[index]["terms_bytes"], name, names, outside) / GIB for index in drawn]
        axes.barh(labels, sizes, left=left, label=name, color=_colour(place), edgecolor="white", linewidth=0.5)
        left = [start + size for start, size in zip(left, sizes)]
    usable, limit = hardware.usable_bytes / GIB, hardware.memory_bytes / GIB
    axes.axvline(usable, color="black", linestyle="--", label=f"usable: {usable:.3g} GiB")
    axes.axvline(limit, color="firebrick", label=f"{hardware.name}'s memory: {limit:.3g} GiB")
    far = max(left) < NEAR_FRAC * usable
    if far:
        axes.set_xlim(0, 1.1 * max(left))
    axes.set_xlabel("GiB a device, at the stage's peak" + ("; the limits lie outside the picture" if far else ""))
    axes.set_title(f"Memory by term: {shown.label()}; peak on stage {shown.peak_stage}, {shown.peak_phase}")
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _large(terms: dict[str, float]) -> list[str]:
    return [name for name, size in terms.items() if size >= SMALL_FRAC * sum(terms.values())]


def _size(terms: dict[str, float], name: str, names: list[str], outside: float) -> float:
    if name == "small terms":
        return sum(size for term, size in terms.items() if term not in names)
    return outside if name.startswith("allocator") else terms.get(name, 0.0)


def _colour(place: int) -> tuple:
    from matplotlib import colormaps

    return colormaps["tab20"](place % 20)


def scaling(problem: Problem, calibration: Calibration) -> dict[str, list[tuple[int, float]]]:
    """(GPUs, best tokens/s) from an eighth to eight times the plan's devices: strong (its batch) and weak (batch grows along).

    Numbers of GPUs that nothing fits, or that don't divide the batch, are left out.
    """
    base = problem.cluster.num_gpus
    sizes = [base // factor for factor in (8, 4, 2) if base % factor == 0] + [base * factor for factor in (1, 2, 4, 8)]
    node = problem.cluster.hardware.gpus_per_node
    whole = [size for size in sizes if size <= node or size % node == 0]
    found: dict[str, list[tuple[int, float]]] = {"strong": [], "weak": []}
    for size in whole:
        for kind, seqs in (("strong", problem.global_seqs), ("weak", problem.global_seqs * size // base)):
            if seqs and (kind == "strong" or problem.global_seqs * size % base == 0):
                changed = Problem(**(vars(problem) | {"cluster": problem.cluster.with_gpus(size), "global_seqs": seqs}))
                try:
                    found[kind].append((size, search(changed, calibration, top=1).best.tokens_per_s))
                except PlanError:
                    continue
    return found


def throughput_figure(problem: Problem, calibration: Calibration) -> "Figure":
    """The best layout's tokens/s at each number of GPUs, whole and for each GPU, against a line in proportion."""
    figure = _figure(12, 5)
    whole, each = figure.subplots(1, 2)
    curves = {kind: points for kind, points in scaling(problem, calibration).items() if points}
    here = problem.cluster.num_gpus
    batch = format_count(problem.tokens_per_step)
    names = {"strong": f"strong: batch of {batch} tokens", "weak": f"weak: {batch} tokens at {here}, in proportion"}
    for kind, points in curves.items():
        sizes, rates = zip(*points)
        whole.plot(sizes, rates, marker="o", label=names[kind])
        each.plot(sizes, [rate / size for size, rate in points], marker="o", label=names[kind])
    smallest, rate = min(point for points in curves.values() for point in points)
    ticks = sorted({size for points in curves.values() for size, _ in points})
    whole.plot(ticks, [rate * size / smallest for size in ticks], color="grey", linestyle=":", label="in proportion to GPUs")
    whole.set_yscale("log")
    whole.set_ylabel("tokens/s")
    each.set_ylabel("tokens/s for each GPU")
    each.set_ylim(bottom=0)
    for axes in (whole, each):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(size) for size in ticks])
        axes.axvline(here, color="grey", linewidth=0.8)
        axes.set_xlabel(f"{problem.cluster.hardware.name} devices")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("Throughput against GPUs: the best layout for each number (predicted)")
    return figure


def timeline_figure(wanted: Candidate, plan: Plan, calibration: Calibration) -> "Figure":
    """Stages against time, with the bubble white; of the wanted layout, or of the plan's best one that has a pipeline."""
    piped = next((one for one in (wanted, *plan.ranked) if int(one.layouts.pp[0]) > 1), wanted)
    row = piped.layouts.row(0)
    forward_s, backward_s = stage_seconds(piped, plan.problem, calibration)
    shown = min(row["num_microbatches"], DRAWN_MICROBATCHES * row["pp"])
    blocks = timeline(forward_s=forward_s, backward_s=backward_s, vp=row["vp"], num_microbatches=shown)
    figure = _figure(12, 1.9 + 0.4 * row["pp"])
    axes = figure.subplots()
    for kind, base in ((True, "#3b7dd8"), (False, "#4da35a")):
        for chunk in range(row["vp"]):
            mine = [one for one in blocks if one.forward is kind and one.chunk == chunk]
            axes.barh(
                [one.stage for one in mine], [1e3 * (one.end_s - one.start_s) for one in mine],
                left=[1e3 * one.start_s for one in mine], color=base, alpha=1 - 0.6 * chunk / row["vp"], edgecolor="white",
                linewidth=0.5, label=("forward" if kind else "backward") if chunk == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(row["pp"]), [f"stage {stage}" for stage in range(row["pp"])])
    axes.invert_yaxis()
    axes.set_xlabel("ms (without messages between stages, data parallelism and the optimizer)")
    part = f"{shown} of {row['num_microbatches']} microbatches" if shown < row["num_microbatches"] else f"{shown} microbatches"
    of_best = "" if piped.label() == wanted.label() else " (the best layout with a pipeline)"
    idle = 100 * idle_frac(blocks)
    axes.set_title(f"{piped.label()}{of_best}\n{part}, {idle:.0f} % of the time shown idle; paler: later chunks of layers")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure
