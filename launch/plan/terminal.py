"""A plan's pictures in a terminal: memory by term against the device, the pipeline's timeline, throughput against GPUs."""

from rich.console import Console
from rich.text import Text

from launch.plan.answer import stages_of_memory
from launch.plan.calibration import Calibration
from launch.plan.hardware import GIB
from launch.plan.pictures import scaling as scaling_curves
from launch.plan.search import Plan
from launch.plan.timeline import idle_frac, stage_seconds, timeline

WIDTH = 96  # characters of a bar
SHOWN_MICROBATCHES = 2  # for each stage
COLOURS = ("blue", "cyan", "green", "yellow", "magenta", "red", "white", "bright_blue", "bright_green", "bright_magenta")
LETTERS = "WGMOactlbx"  # so that the bar can be read without colours


def print_pictures(plan: Plan, calibration: Calibration, *, scaling: bool = False) -> None:
    """Draws the best layout; the throughput curves take some more searches, and are drawn where asked for."""
    console = Console() if Console().is_terminal else Console(width=140)
    _memory(console, plan)
    if int(plan.best.layouts.pp[0]) > 1:
        _timeline(console, plan, calibration)
    if scaling:
        _scaling(console, plan, calibration)


def _groups(terms: dict[str, float], outside: float) -> dict[str, float]:
    """Terms as few enough pieces for a line."""
    alike = {"weights": "weights", "gradients": "gradients", "masters": "masters", "moments": "moments"}
    found = dict.fromkeys((*alike.values(), "activations", "logits and loss", "other"), 0.0)
    for name, size in terms.items():
        kept = "activations" if name.startswith(("activations", "recomputed")) else name if name in found else "other"
        found[alike.get(name, kept)] += size
    return found | {"allocator, context, communicators": outside}


def _memory(console: Console, plan: Plan) -> None:
    best, hardware = plan.best, plan.problem.cluster.hardware
    stages = stages_of_memory(best, plan.problem)
    outside = best.device_bytes - best.allocated_bytes
    shown = sorted({0, len(stages) // 2, best.peak_stage, len(stages) - 1})
    console.print(
        f"Memory of a GPU by pipeline stage, of {hardware.memory_gib:.1f} GiB (a plan leaves 5 % free, to the right of |):"
    )
    names: list[str] = []
    for index in shown:
        groups = _groups(stages[index]["terms_bytes"], outside)
        names = list(groups)
        bar, used = Text(f"  stage {index:<4d}"), 0
        for place, size in enumerate(groups.values()):
            length = round(WIDTH * size / hardware.memory_bytes)
            bar.append(LETTERS[place] * length, style=COLOURS[place])
            used += length
        limit = round(WIDTH * hardware.usable_bytes / hardware.memory_bytes)
        bar.append("·" * max(0, limit - used) + "|" + "·" * max(0, WIDTH - max(limit, used)))
        bar.append(f" {(sum(groups.values())) / GIB:.1f}")
        console.print(bar, soft_wrap=True)
    console.print("  " + ", ".join(f"{LETTERS[place]} {name}" for place, name in enumerate(names)))


def _timeline(console: Console, plan: Plan, calibration: Calibration) -> None:
    row = plan.best.layouts.row(0)
    forward_s, backward_s = stage_seconds(plan.best, plan.problem, calibration)
    pp, shown = row["pp"], min(row["num_microbatches"], SHOWN_MICROBATCHES * row["pp"])
    blocks = timeline(forward_s=forward_s, backward_s=backward_s, vp=row["vp"], num_microbatches=shown)
    end = max(block.end_s for block in blocks)
    console.print(
        f"Pipeline, its first {shown} of {row['num_microbatches']} microbatches: F forward, B backward, · waiting "
        f"({100 * idle_frac(blocks):.0f} % here, "
        f"{100 * plan.best.parts_s['bubble'] / plan.best.step_s:.1f} % of the whole step):"
    )
    for stage in sorted({0, 1, pp // 2, pp - 1} & set(range(pp))):
        line = ["·"] * WIDTH
        for block in (one for one in blocks if one.stage == stage):
            for place in range(int(WIDTH * block.start_s / end), min(WIDTH, max(1, round(WIDTH * block.end_s / end)))):
                line[place] = "F" if block.forward else "B"
        console.print(Text(f"  stage {stage:<4d}" + "".join(line)), soft_wrap=True)


def _scaling(console: Console, plan: Plan, calibration: Calibration) -> None:
    for kind, points in scaling_curves(plan.problem, calibration).items():
        if not points:
            continue
        batch = "the recipe's batch" if kind == "strong" else "a batch that grows with the GPUs"
        console.print(f"Throughput against GPUs, {kind} scaling ({batch}); share of what proportion would give:")
        size, rate = points[0]
        for gpus, tokens_per_s in points:
            share = tokens_per_s / (rate * gpus / size)
            console.print(f"  {gpus:>6d} GPUs {'█' * round(40 * share):<42s} {100 * share:.0f} %  {tokens_per_s:,.0f} tokens/s")
