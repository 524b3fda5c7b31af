"""Trials per hour on this machine: workers that serve many trials against a job for each. `make bench-sweep`

A 6M model (the shape of the nano preset, a small vocabulary), trials of a few steps: what is compared is everything around the
training, so the ratio falls with `--steps` (both sides then train longer). The job is `windtunnel train` on one process; as
many jobs run at once as there are workers. Start-up of workers counts.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launch.search.setup import conducting, make_study
from launch.search.trial import Trial
from recipe.config import RunConfig
from recipe.load import load_recipe

RECIPE = """
extends: nano
name: bench
model: {seq_length_tokens: 128, vocab_size: 1024}
tokenizer: {train_on: {code: 1}, train_bytes: 2MB}
sources: {code: {kind: python, what: stdlib_code, heldout_frac: 0.02}}
stages:
  - {name: stable, tokens: STABLE, mixture: {code: 100}}
  - {name: decay, tokens: STEP, mixture: {code: 100}, lr: {shape: linear}}
optim: {warmup_tokens: STEP}
batch: {global_tokens: STEP, micro_seqs: 4}
precision: fp32
evaluate: {heldout_tokens: 512}
logging: {tensorboard: false}
"""
STEP_TOKENS = 512


def peak_lr(number: int) -> str:
    return f"optim.peak_lr={0.005 + 0.001 * number}"


def served(config: RunConfig, folder: Path, *, trials: int, workers: int) -> tuple[float, list[float]]:
    """Seconds of a study of so many trials, and each trial's seconds to its first step."""
    study = make_study(folder / "study", config, {"kind": "bench"}, data_dir=folder / "data", workers=workers)
    asked = [Trial(number=number, label="bench", overrides=(peak_lr(number),)) for number in range(trials)]
    started = time.perf_counter()
    with conducting(study, workers=workers) as run:
        results = run(asked)
        seconds = time.perf_counter() - started
    failed = [one.detail for one in results if one.status != "done"]
    assert not failed, failed
    return seconds, [one.start_s for one in results]


def jobs(recipe: Path, folder: Path, *, trials: int, workers: int) -> float:
    """Seconds of so many jobs, `workers` of them at a time."""

    def job(number: int) -> None:
        command = [
            sys.executable, "-m", "launch.cli", "train", str(recipe), "-o", peak_lr(number), "--processes", "1",
            "--run-dir", str(folder / f"job{number}"), "--data-dir", str(folder / "data"),
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]

    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(job, range(trials)))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="of a trial, 2 or more")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe = folder / "bench.yaml"
        stable_tokens = (options.steps - 1) * STEP_TOKENS
        recipe.write_text(RECIPE.replace("STABLE", str(stable_tokens)).replace("STEP", str(STEP_TOKENS)))
        seconds, starts = served(load_recipe(str(recipe)), folder, trials=options.trials, workers=options.workers)
        alone_s = jobs(recipe, folder, trials=options.jobs, workers=options.workers)
    by_study, by_job = 3600 * options.trials / seconds, 3600 * options.jobs / alone_s
    print(f"study of {options.trials} trials of {options.steps} steps, {options.workers} workers: {seconds:.1f} s", end=", ")
    print(f"{by_study:.0f} trials an hour")
    print(f"a job each ({options.jobs} of them): {alone_s:.1f} s, {by_job:.0f} trials an hour")
    print(f"ratio {by_study / by_job:.1f}; first step after {statistics.median(starts):.2f} s, at most {max(starts):.2f}")


if __name__ == "__main__":
    main()
