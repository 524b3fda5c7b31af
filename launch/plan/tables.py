"""Plans on a terminal, from the same mapping that `--json` prints."""

from typing import Any

from rich.console import Console
from rich.table import Table

from launch.plan.hardware import GIB


def _console() -> Console:
    """A terminal's own width; files and pipes get room for whole rows."""
    return Console() if Console().is_terminal else Console(width=140)


def print_candidate(answer: dict[str, Any]) -> None:
    """One layout: totals, time by part, memory by term and stage."""
    console = _console()
    memory = answer["memory_bytes"]
    console.print(
        f"[b]{answer['label']}[/b]: {answer['fits']}; {answer['step_s']:.3f} s a step, {answer['tokens_per_s']:,.0f} tokens/s"
    )
    console.print(
        f"MFU {100 * answer['mfu_6n_frac']:.1f} % (6N), {100 * answer['mfu_attention_frac']:.1f} % (6N and attention)"
    )
    console.print("GiB a device: " + ", ".join(f"{name} {size / GIB:.1f}" for name, size in memory.items()))
    parts = Table("part of the step", "ms")
    for name, seconds in answer["parts_s"].items():
        if seconds > 0:
            parts.add_row(name, f"{1e3 * seconds:.1f}")
    console.print(parts)
    stages = answer["stages"]
    shown = sorted({0, len(stages) // 2, len(stages) - 1})
    table = Table("GiB at the stage's peak", *(f"stage {index}" for index in shown))
    names = dict.fromkeys(name for index in shown for name in stages[index]["terms_bytes"])
    for name in names:
        table.add_row(name, *(f"{stages[index]['terms_bytes'].get(name, 0) / GIB:.3f}" for index in shown))
    console.print(table)
    console.print(f"Peak: stage {answer['peak']['stage']}, in {answer['peak']['phase']}")
    if "trace" in answer:
        traced = answer["trace"]
        console.print(
            f"Trace of rank 0: {traced['forward_backward'] / GIB:.3f} GiB in forward and backward, {traced['allocated'] / GIB:.3f} at most"  # noqa: E501
        )
    _outside(console, answer)


def print_plan(answer: dict[str, Any]) -> None:
    """The ranked table, three picks, neighbours, days."""
    console = _console()
    cluster = answer["cluster"]
    console.print(
        f"{cluster['num_gpus']} × {cluster['gpu']}: {answer['num_legal']} layouts are possible, {answer['num_fit']} fit"
    )
    table = Table("", "layout", "s/step", "tokens/s", "MFU 6N", "+attention", "GiB", "bubble", "comm")
    for index, one in enumerate(answer["ranked"], start=1):
        parts, step = one["parts_s"], one["step_s"]
        comm = sum(
            parts[name] for name in ("tensor and context parallel", "pipeline messages", "ZeRO-3 gathers", "data parallel")
        )
        table.add_row(
            str(index), one["label"], f"{step:.3f}", f"{one['tokens_per_s']:,.0f}", f"{100 * one['mfu_6n_frac']:.1f} %",
            f"{100 * one['mfu_attention_frac']:.1f} %", f"{one['memory_bytes']['device'] / GIB:.1f}",
            f"{100 * parts['bubble'] / step:.1f} %", f"{100 * comm / step:.1f} %",
        )  # fmt: skip
    console.print(table)
    console.print("Picks: " + "; ".join(f"{name}: {label}" for name, label in answer["picks"].items() if label))
    near = Table("one change from the first", "outcome", "reason")
    for one in answer["neighbours"]:
        near.add_row(one["change"], one["outcome"], one["reason"])
    console.print(near)
    for name, cost in (*answer["stages_of_recipe"].items(), ("whole recipe", answer["recipe"])):
        money = f", cost {cost['cost']:,.0f}" if cost["cost"] else ""
        console.print(
            f"{name}: {cost['days']:.2f} days, {cost['gpu_hours']:,.0f} GPU hours, {cost['energy_kwh']:,.0f} kWh{money}"
        )
    console.print("Not modelled: " + ", ".join(answer["not_modelled"]))
    _outside(console, answer["ranked"][0])


def _outside(console: Console, answer: dict[str, Any]) -> None:
    if answer["outside_validation"]:
        console.print("[yellow]Outside what was validated: " + "; ".join(answer["outside_validation"]) + "[/yellow]")
