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
    if answer["refused"]:
        console.print(f"[red]The engine would refuse this layout: {answer['refused']}[/red]")
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
        _trace(console, answer["trace"])
    _outside(console, answer)


def _trace(console: Console, traced: dict[str, Any]) -> None:
    deep = f", from {traced['traced_layers'][0]} and {traced['traced_layers'][1]} layers" if "traced_layers" in traced else ""
    console.print(f"Trace of rank {traced['rank']} on fake tensors{deep}, with CPU kernels (they keep fp32 copies in norms):")
    table = Table("GiB in forward and backward", "closed form", "trace", "difference of the total")
    whole = traced["terms_bytes"]["total"]["trace"]
    for name, sizes in traced["terms_bytes"].items():
        apart = f"{100 * (sizes['closed'] - sizes['trace']) / whole:+.2f} %"
        table.add_row(name, f"{sizes['closed'] / GIB:.3f}", f"{sizes['trace'] / GIB:.3f}", apart)
    console.print(table)


WORDS = {  # of a layout's label
    "tp": "tensor parallel: so many GPUs share each matrix (keep it inside a node)",
    "pp": "pipeline stages: the layers are cut into so many groups, each on other GPUs",
    "vp": "virtual stages: each pipeline stage holds so many separate pieces of the model, which shortens the waiting",
    "cp": "context parallel: so many GPUs share each sequence",
    "dp": "data parallel: so many copies of all that, each with its own part of the batch",
    "mbs": "micro batch: sequences that a GPU works on at once",
    "zero": "what the copies share out instead of each keeping it: 1 optimizer states, 2 also gradients, 3 also weights",
    "sp": "sequence parallel: what lies between the matrices is shared by the tensor-parallel GPUs too",
    "full": "full recomputation: a layer's intermediate values are computed again instead of kept (less memory, more time)",
    "selective": "selective recomputation: a part of them is",
    "offload": "optimizer states live in the host's memory",
}


def print_plan(answer: dict[str, Any]) -> None:
    """The ranked table, what to run, picks, neighbours, days."""
    console = _console()
    cluster, best = answer["cluster"], answer["ranked"][0]
    console.print(
        f"{cluster['num_gpus']} × {cluster['gpu']}: {answer['num_legal']:,} layouts are possible, {answer['num_fit']:,} fit"
    )
    console.print(f"[b]Run this:[/b] {answer['command']}", soft_wrap=True)
    console.print(_why(answer))
    table = Table("", "layout", "s/step", "tokens/s", "MFU 6N", "+attention", "GiB", "waiting", "talking")
    for index, one in enumerate(answer["ranked"], start=1):
        parts, step = one["parts_s"], one["step_s"]
        table.add_row(
            str(index), one["label"], f"{step:.3f}", f"{one['tokens_per_s']:,.0f}", f"{100 * one['mfu_6n_frac']:.1f} %",
            f"{100 * one['mfu_attention_frac']:.1f} %", f"{one['memory_bytes']['device'] / GIB:.1f}",
            f"{100 * parts['bubble'] / step:.1f} %", f"{100 * _talking(parts) / step:.1f} %",
        )  # fmt: skip
    console.print(table)
    console.print(
        "MFU: share of the GPUs' peak arithmetic, counting 6 operations a weight and token (and attention's). waiting: for "
        "other pipeline stages (the bubble). talking: communication that nothing hides."
    )
    used = [word for word in WORDS if any(word in _label_words(one["label"]) for one in answer["ranked"])]
    console.print("\n".join(f"  [b]{word}[/b]  {WORDS[word]}" for word in used))
    _picks(console, answer)
    near = Table("one change from the first", "outcome", "reason")
    for one in answer["neighbours"]:
        near.add_row(one["change"], one["outcome"], one["reason"])
    console.print(near)
    _costs(console, answer)
    console.print("Not modelled: " + ", ".join(answer["not_modelled"]))
    _outside(console, best)


def _label_words(label: str) -> set[str]:
    return {part.rstrip("0123456789") for part in label.split()}


def _talking(parts: dict[str, float]) -> float:
    return sum(parts[name] for name in ("tensor and context parallel", "pipeline messages", "ZeRO-3 gathers", "data parallel"))


def _why(answer: dict[str, Any]) -> str:
    best = answer["ranked"][0]
    memory, parts, step = best["memory_bytes"], best["parts_s"], best["step_s"]
    busy = 1 - (parts["bubble"] + _talking(parts)) / step
    slower = [one for one in answer["neighbours"] if one["outcome"] == "slower"]
    too_large = [one for one in answer["neighbours"] if one["outcome"] == "too large"]
    text = (
        f"It fills {memory['device'] / GIB:.1f} of the {memory['usable'] / GIB:.1f} GiB that a plan may use of each GPU and "
        f"computes {100 * busy:.0f} % of each step ({step:.2f} s)."
    )
    if too_large:
        text += f" {too_large[0]['change']} would not fit ({too_large[0]['reason']})."
    if slower:
        text += f" {slower[0]['change']} would fit and be {slower[0]['reason']}."
    return text


def _picks(console: Console, answer: dict[str, Any]) -> None:
    meaning = {
        "fastest": "least time a step", "leanest": "least memory within 10 % of the fastest",
        "robust": "fastest once a node is lost, with the same tp, pp and cp",
    }  # fmt: skip
    for name, one in answer["picks_detail"].items():
        label = answer["picks"][name]
        console.print(f"{name} ({meaning[name]}): {label}, {one['step_s']:.3f} s, {one['device_bytes'] / GIB:.1f} GiB")
    if not answer["picks"]["robust"]:
        console.print("robust: none; with a node less, no layout of these divides the batch and fits")


def _costs(console: Console, answer: dict[str, Any]) -> None:
    if not answer["stages_of_recipe"]:
        return
    table = Table("stage", "days", "GPU hours", "kWh", "cost", "tokenizing, core hours", "days on 32 cores")
    for name, cost in (*answer["stages_of_recipe"].items(), ("whole recipe", answer["recipe"])):
        table.add_row(
            name, f"{cost['days']:.2f}", f"{cost['gpu_hours']:,.0f}", f"{cost['energy_kwh']:,.0f}",
            f"{cost['cost']:,.0f}" if cost["cost"] else "no price given", f"{cost['tokenize_core_hours']:,.1f}",
            f"{cost['tokenize_days']:.2f}",
        )  # fmt: skip
    console.print(table)
    console.print("Tokenizing needs no GPU and comes before; it is counted once for each token trained on (at most so much).")


def _outside(console: Console, answer: dict[str, Any]) -> None:
    if answer["outside_validation"]:
        console.print("[yellow]Outside what was validated: " + "; ".join(answer["outside_validation"]) + "[/yellow]")
