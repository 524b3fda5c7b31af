"""What a tuning came to: files for programs and the next plan, a table for people."""

import os
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_prep.atomic import write_json, write_text
from launch.plan.hardware import GIB
from launch.plan.recipe import layout_changes
from launch.plan.search import Problem
from launch.plan.space import stack
from launch.plan.steptime import step_time
from launch.tune.loop import Answer
from launch.tune.trial import Result
from launch.tune.verdict import Rule, Verdict
from recipe.config import RunConfig


def rank_correlation(answer: Answer) -> float | None:
    """Spearman's, of predicted and measured step time; None under three measured layouts."""
    timed = [one for one in answer.results if one.step_s is not None]
    if len(timed) < 3:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr([one.candidate.step_s for one in timed], [one.step_s for one in timed]).statistic)


def noise_frac(answer: Answer, *, rule: Rule) -> float | None:
    """How far the measured steps of one trial lie apart, over their median: the median of all trials."""
    kept = [one.steps_s[rule.warmup_steps :][: rule.num_steps] for one in answer.results if one.step_s is not None]
    return median((max(steps) - min(steps)) / median(steps) for steps in kept if steps) if any(kept) else None


def as_json(answer: Answer, problem: Problem, *, rule: Rule) -> dict[str, Any]:
    """The whole answer."""
    hardware = problem.cluster.hardware
    best = answer.best
    again = _again(answer, problem)
    return {
        "gpu": hardware.name, "kind": hardware.kind,
        "num_processes": problem.cluster.num_gpus, "global_seqs": problem.global_seqs,
        "results": [_row(one, again.get(index)) for index, one in enumerate(answer.results)],
        "best": best.candidate.label() if best else None, "spearman": rank_correlation(answer),
        "learned": any(one.step_s is not None or one.verdict is Verdict.OUT_OF_MEMORY for one in answer.results),
        "noise_frac": noise_frac(answer, rule=rule),
    }  # fmt: skip


def _again(answer: Answer, problem: Problem) -> dict[int, float]:
    """Predictions by the new calibration, of what was measured (so they are a fit, not a test)."""
    timed = [index for index, one in enumerate(answer.results) if one.step_s is not None]
    if not timed:
        return {}
    table = stack([answer.results[index].candidate.layouts for index in timed])
    time = step_time(
        problem.shape, table, problem.engine, problem.cluster.hardware, answer.calibration, precision=problem.precision
    )
    return dict(zip(timed, time.step_s.tolist()))


def _row(one: Result, again_s: float | None) -> dict[str, Any]:
    return {
        "label": one.candidate.label(), "layout": one.candidate.layouts.row(0),
        "verdict": str(one.verdict), "detail": one.detail,
        "predicted_s": one.candidate.step_s, "measured_s": one.step_s, "recalibrated_s": again_s, "steps_s": list(one.steps_s),
        "predicted_bytes": one.candidate.allocated_bytes, "measured_bytes": one.memory_bytes,
    }  # fmt: skip


def fragment(answer: Answer, config: RunConfig, *, recipe: str, override: list[str], out: Path) -> str:
    """The winner as a recipe that extends the tuned one."""
    best = answer.best
    assert best is not None  # asked for only then
    parent = os.path.relpath(recipe, out) if Path(recipe).is_file() else recipe
    content = {"extends": parent, "name": config.name} | layout_changes(best.candidate)
    head = f"# windtunnel tune: {best.step_s:.4g} s a step, the fastest of {len(answer.results)} layouts tried.\n"
    if override:
        head += f"# Tuned with -o {' -o '.join(override)}\n"
    return head + yaml.safe_dump(content, sort_keys=False)


def write(
    answer: Answer, problem: Problem, config: RunConfig, *, rule: Rule, recipe: str, override: list[str], out: Path
) -> dict[str, Any]:
    """Writes tune.json; calibration.json where anything was learned, layout.yaml where measured; returns the first."""
    content = as_json(answer, problem, rule=rule)
    write_json(out / "tune.json", content)
    if content["learned"]:
        answer.calibration.save(out / "calibration.json")
    if answer.best:
        write_text(out / "layout.yaml", fragment(answer, config, recipe=recipe, override=override, out=out))
    return content


def print_table(content: dict[str, Any], *, out: Path) -> None:
    """Predicted against measured, then what to do with it."""
    console = Console() if Console().is_terminal else Console(width=140)
    measured = "GiB rank 0" if content["kind"] == "gpu" else "GiB resident"
    table = Table("layout", "predicted s", "measured s", "predicted, calibrated", "GiB predicted", measured, "outcome")
    for row in content["results"]:
        times = (row[key] for key in ("predicted_s", "measured_s", "recalibrated_s"))
        seconds = ("-" if one is None else f"{one:.3f}" for one in times)
        memory = (f"{row[key] / GIB:.2f}" if row[key] else "-" for key in ("predicted_bytes", "measured_bytes"))
        outcome = row["verdict"] + (f": {row['detail']}" if row["detail"] else "")
        table.add_row(row["label"], *seconds, *memory, escape(outcome))
    console.print(table)
    if content["spearman"] is not None:
        console.print(f"Order predicted against measured (Spearman): {content['spearman']:.2f}")
    timed = [row["predicted_s"] for row in content["results"] if row["measured_s"] is not None]
    if timed and (apart := max(timed) / min(timed) - 1) < content["noise_frac"]:
        console.print(
            f"[yellow]The predictions lie {100 * apart:.1f} % apart, the steps of one run {100 * content['noise_frac']:.0f} %: "
            "the order says little. More --steps, a quiet machine, or a larger --top would.[/yellow]"
        )
    if content["best"]:
        console.print(f"Fastest: {content['best']}; train it with: windtunnel train {out / 'layout.yaml'}")
    if content["learned"]:
        console.print(f"Next plan on this machine: windtunnel plan RECIPE --calibration {out / 'calibration.json'}")
