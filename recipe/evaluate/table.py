"""Evaluations on a terminal: one checkpoint in detail, or every result of a run in one table by tokens."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from recipe.evaluate.agents.run import BENCHMARKS
from recipe.evaluate.baselines import NAMES
from recipe.evaluate.results import result_files
from recipe.evaluate.suite import TASKS
from recipe.rundir import RunDir
from recipe.units import format_count

KINDS = {"heldout": "sources", "tasks": "tasks", "agents": "agents", "calibration": "calibration", "by-index": "by_index"}
"""Of files in RUN/eval → the key that holds their result."""


def all_results(run: RunDir) -> list[dict[str, Any]]:
    """One dictionary a checkpoint, by tokens, of everything that `RUN/eval` holds."""
    merged: dict[tuple[int, str], dict[str, Any]] = {}
    for kind, key in KINDS.items():
        for result in result_files(run, kind):
            place = (result["tokens"], result["stage"])
            row = merged.setdefault(place, {"stage": result["stage"], "tokens": result["tokens"]})
            row[key] = result[key]
    return [merged[place] for place in sorted(merged)]


def scored(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Tasks and agents of one result, by name."""
    return {**result.get("tasks", {}), **result.get("agents", {})}


def columns_of(results: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The measures that some result has: name → how it is headed."""
    heads: dict[str, str] = {}
    for result in results:
        heads |= {f"{name} nats": f"{name}\nnats" for name in result.get("sources", {})}
        heads |= {f"{name} %": f"{name}\n%" for name, row in scored(result).items() if "value" in row}
        heads |= {"ECE": "ECE"} if "calibration" in result else {}
        heads |= {"b": "b\n(t → ∞)"} if "by_index" in result and result["by_index"]["fit"] else {}
    return heads


def cells_of(result: dict[str, Any]) -> dict[str, str]:
    """A result's measures as text, by the names of `columns_of`."""
    cells = {f"{name} nats": f"{row['loss_nats']:.4f}" for name, row in result.get("sources", {}).items()}
    cells |= {f"{name} %": f"{100 * row['value']:.2f}" for name, row in scored(result).items() if "value" in row}
    if "calibration" in result:
        cells["ECE"] = f"{result['calibration']['ece']:.3f}"
    if "by_index" in result and result["by_index"]["fit"]:
        cells["b"] = f"{result['by_index']['fit']['b']:.3f}"
    return cells


def show(results: Sequence[dict[str, Any]]) -> None:
    """To stdout: details of a single result, else the table by tokens."""
    if len(results) == 1:
        _show_one(results[0])
        return
    heads = columns_of(results)
    table = Table("tokens", "stage", *heads.values())
    for result in results:
        cells = cells_of(result)
        table.add_row(format_count(result["tokens"]), result["stage"], *(cells.get(name, "–") for name in heads))
    Console().print(table)


def _show_one(result: dict[str, Any]) -> None:
    console, after = Console(), f"after {format_count(result['tokens'])} tokens ({result['stage']})"
    if "sources" in result:
        console.print(_heldout_table(result["sources"], title=f"held-out loss {after}"))
    if "tasks" in result:
        console.print(_task_table(result["tasks"], title=f"tasks {after}"))
    if "agents" in result:
        console.print(_agent_table(result["agents"], title=f"agents {after}"))
    if "calibration" in result:
        found = result["calibration"]
        table = Table("confidence", "questions", "mean confidence", "accuracy", title=f"calibration on MMLU {after}")
        for one in found["bins"]:
            shares = (f"{one['low']:.1f} to {one['high']:.1f}", str(one["count"]))
            table.add_row(*shares, f"{one['confidence']:.3f}", f"{one['accuracy']:.3f}")
        console.print(table)
        print(f"accuracy {found['accuracy']:.4f}, ECE {found['ece']:.4f}, {found['num_questions']} questions")
    if "by_index" in result and not (law := result["by_index"]["fit"]):
        print(f"loss by token index: {result['by_index']['why']}")
    elif "by_index" in result:
        parts = [f"{name} = {law[name]:.4g} ({low:.4g} to {high:.4g})"
                 for name in "abc" for low, high in [law[f"{name}_interval"]]]
        print(f"loss by token index: L(t) = b + (t/c)^a with {', '.join(parts)}; residual {law['residual']:.4f} nats")


def _heldout_table(sources: dict[str, Any], *, title: str) -> Table:
    table = Table("source", title=title, title_justify="left")
    for name in ("tokens", "nats/token", "bits/byte", *NAMES.values()):
        table.add_column(name, justify="right")
    for name, row in sources.items():
        counted = [f"{row['baselines'][order]:.4f}" if order in row["baselines"] else "–" for order in NAMES.values()]
        table.add_row(
            name, format_count(row["num_tokens"]), f"{row['loss_nats']:.4f}", f"{row['bits_per_byte']:.4f}", *counted
        )
    return table


def _task_table(tasks: dict[str, Any], *, title: str) -> Table:
    table = Table("task", "shots", "metric", title=title, title_justify="left")
    for name in ("questions", "here, %", "Xmodel-2-1.2B, %"):
        table.add_column(name, justify="right")
    for name, row in tasks.items():
        reported = f"{TASKS[name].reported:.2f}"
        if "missing" in row:
            table.add_row(name, str(TASKS[name].few_shot), TASKS[name].metric, "–", "no data", reported)
        else:
            shots, number = str(row["few_shot"]), str(row["num_questions"])
            table.add_row(name, shots, row["metric"], number, f"{100 * row['value']:.2f}", reported)
    return table


def _agent_table(agents: dict[str, Any], *, title: str) -> Table:
    table = Table("agent", "metric", title=title, title_justify="left")
    for name in ("tasks", "here, %", "Xmodel-2-1.2B, %", "steps", "malformed, %", "hit the limit"):
        table.add_column(name, justify="right")
    for name, row in agents.items():
        shares = (f"{100 * row['value']:.2f}", f"{BENCHMARKS[name].reported:.2f}", f"{row['mean_steps']:.1f}")
        bad = (f"{100 * row['malformed_frac']:.1f}", str(row["ended"]["limit"]))
        table.add_row(name, row["metric"], str(row["num_questions"]), *shares, *bad)
    return table
