"""Predicted against measured on this machine: every layout of the nano model on two processes, all of them run to the end.

    windtunnel doctor --bench here.yaml --processes 2
    python -m tests.bench.bench_tune here.yaml OUT --data-dir data --for-s 450      # again until all are measured
    python -m tests.bench.bench_tune here.yaml OUT --table

The model is the preset's, with a vocabulary of 4,096 (the demo's tokenizer and text). Predictions come from the measured
hardware file alone: nothing is fitted to the runs. Their order is shuffled: a drift of the machine's speed isn't theirs.
"""

import argparse
import random
import time
from pathlib import Path

from data_prep.atomic import write_json
from launch.plan.answer import default_calibration, problem_of
from launch.plan.search import Candidate, Problem, price
from launch.plan.shapes import Layouts
from launch.plan.space import stack
from launch.tune.trial import Site, run_trial
from launch.tune.verdict import Rule
from recipe.config import RunConfig
from recipe.data import prepare
from recipe.load import load_recipe
from recipe.rundir import read_json

NANO = [
    "model.num_layers=8", "model.hidden_size=256", "model.ffn_hidden_size=640", "model.num_heads=4", "model.num_kv_heads=1",
    "model.seq_length_tokens=1024", "mup.dim_model_base=256", "batch.global_tokens=8192", "batch.micro_seqs=1",
]  # fmt: skip
SEQS, PROCESSES = 8, 2
RULE = Rule(warmup_steps=1, num_steps=3)
WITHIN_FRAC = 0.05


def tables() -> Layouts:
    """Data, pipeline (plain and interleaved) and context parallelism, with and without recomputation, by micro batch."""
    found = []
    for mbs in (1, 2, 4):
        found += [Layouts.one(dp=2, mbs=mbs, num_microbatches=4 // mbs, recompute=kind) for kind in ("none", "full")]
        found.append(Layouts.one(pp=2, mbs=mbs, zero=0, num_microbatches=8 // mbs))
        found.append(Layouts.one(cp=2, mbs=mbs, num_microbatches=8 // mbs))
        found.append(Layouts.one(pp=2, vp=2, mbs=mbs, zero=0, num_microbatches=8 // mbs))
    return stack(found)


def everything(hardware: str, overrides: list[str]) -> tuple[RunConfig, Problem, list[Candidate]]:
    config = load_recipe("demo", [*NANO, *overrides])
    problem = problem_of(config, gpu=hardware, num_gpus=PROCESSES, engine="windtunnel", global_seqs=SEQS)
    return config, problem, price(problem, tables(), default_calibration())


def run(config: RunConfig, candidates: list[Candidate], *, out: Path, data_dir: Path, for_s: float) -> None:
    """Measures what has no result yet."""
    results = out / "results.json"
    known = read_json(results) if results.is_file() else {}
    deadline_s = time.monotonic() + for_s
    left = [one for one in candidates if one.label() not in known]
    random.Random(len(known)).shuffle(left)
    for one in left:
        site = Site(num_processes=PROCESSES, data_dir=data_dir, rule=RULE, deadline_s=deadline_s, stop=[])
        result = run_trial(one, config, root=out / f"{time.time_ns()}", site=site, best_s=None)
        print(f"{one.label()}: {result.verdict} {result.steps_s} {result.detail}", flush=True)
        if result.verdict == "measured" and len(result.steps_s) >= RULE.warmup_steps + RULE.num_steps:
            write_json(results, known := known | {one.label(): {"step_s": result.step_s, "steps_s": result.steps_s}})
        if time.monotonic() > deadline_s:
            break


def table(candidates: list[Candidate], *, out: Path, top: int) -> None:
    from scipy.stats import spearmanr

    known = read_json(out / "results.json")
    timed = sorted((one for one in candidates if one.label() in known), key=lambda one: one.step_s)
    measured = [known[one.label()]["step_s"] for one in timed]
    print("| layout | predicted s | measured s | measured steps |\n|---|---|---|---|")
    for one, step_s in zip(timed, measured):
        steps = " ".join(f"{step:.2f}" for step in known[one.label()]["steps_s"][RULE.warmup_steps :])
        print(f"| {one.label()} | {one.step_s:.2f} | {step_s:.2f} | {steps} |")
    print(f"\nSpearman {spearmanr([one.step_s for one in timed], measured).statistic:.2f} over {len(timed)}")
    apart = min(measured[:top]) / min(measured) - 1
    print(f"the winner of the {top} best predictions is {100 * apart:.1f} % slower than the best of all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hardware")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--for-s", type=float, default=3600)
    parser.add_argument("--top", type=int, default=6)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("-o", action="append", default=[], dest="overrides")
    asked = parser.parse_args()
    config, _, candidates = everything(asked.hardware, asked.overrides)
    if not asked.table:
        prepare(config, data_dir=asked.data_dir, workers=PROCESSES)
        run(config, candidates, out=asked.out, data_dir=asked.data_dir, for_s=asked.for_s)
    table(candidates, out=asked.out, top=asked.top)


if __name__ == "__main__":
    main()
