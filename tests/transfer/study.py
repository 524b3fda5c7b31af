"""Runs the transfer study's points: one process for all, each finished point a line of a results file.

python -m tests.transfer.study --results recipe/studies/transfer/points.jsonl [--parts width,depth] [--for-s 420]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from tests.transfer.curves import Curve, curves
from tests.transfer.train import Job

FARTHEST = 14  # grid steps from the start: 2^7


class TimeUp(Exception):
    """The time given is spent; the next call goes on."""


class Points:
    """Finished points: a JSON line each, appended as it ends, so that an interrupted study loses one point at most."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses: dict[str, float] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self.losses[row["key"]] = row["loss"]

    def loss(self, job: Job) -> float | None:
        """The point's held-out loss, if it is finished."""
        return self.losses.get(job.key)

    def add(self, job: Job, result: dict[str, float]) -> None:
        """Records a finished point."""
        self.losses[job.key] = result["loss"]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": job.key, **asdict(job), **result}) + "\n")


def sweep(curve: Curve, loss: Callable[[Job], float]) -> dict[tuple[int, int], float]:
    """Walks until seed 1's minimum has `reach` steps on both sides, then repeats the middle ones with other seeds.

    Returns:
        (grid step, seed) -> loss.
    """
    found = {(step, 1): loss(curve.at(step, 1)) for step in (curve.start - 1, curve.start, curve.start + 1)}
    while True:
        steps = sorted(step for step, _ in found)
        best = min(steps, key=lambda step: found[step, 1])
        missing = [best + side * off for off in range(1, curve.reach + 1) for side in (1, -1) if best + side * off not in steps]
        missing = [step for step in missing if abs(step - curve.start) <= FARTHEST]
        if not missing:
            break
        found[missing[0], 1] = loss(curve.at(missing[0], 1))
    for seed in range(2, curve.seeds + 1):
        for step in sorted({best - 1, best, best + 1, *curve.shared}):
            found[step, seed] = loss(curve.at(step, seed))
    return found


def finished(points: Points) -> Iterator[tuple[Curve, dict[tuple[int, int], float]]]:
    """Every curve that is there, with as many seeds as are."""

    def known(job: Job) -> float:
        loss = points.loss(job)
        if loss is None:
            raise TimeUp
        return loss

    for curve in curves():
        for seeds in range(curve.seeds, 0, -1):
            try:
                yield curve, sweep(replace(curve, seeds=seeds), known)
                break
            except TimeUp:
                continue


def run(points: Points, *, parts: Sequence[str], for_s: float) -> bool:
    """Trains what is missing; returns whether all is there."""
    import torch

    import megatron_patches
    from megatron_patches.cpu.world import single_process_world
    from tests.transfer.train import train_one

    started = time.monotonic()
    torch.set_num_threads(1)
    wanted = [curve for curve in curves() if not parts or curve.part in parts]

    def loss(job: Job, label: str) -> float:
        found = points.loss(job)
        if found is not None:
            return found
        if time.monotonic() - started > for_s:
            raise TimeUp
        result = train_one(job)
        points.add(job, result)
        told = f"[{time.monotonic() - started:.0f} s] {label}, lr {job.lr:.5f}, seed {job.seed}: {result['loss']:.4f}"
        print(told, file=sys.stderr, flush=True)
        return result["loss"]

    with megatron_patches.apply(cpu=True):
        single_process_world()
        try:
            first = [replace(curve, seeds=1) for curve in wanted]
            for number, curve in enumerate([*first, *wanted], 1):  # one seed of all curves, before more of any
                label = f"curve {number} of {2 * len(wanted)}, {curve.part} {curve.group} {curve.size:g}"
                sweep(curve, partial(loss, label=label))
        except TimeUp:
            return False
    return True


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="JSON lines; finished points in it are not trained again")
    parser.add_argument("--parts", default="", help="by commas; all where absent")
    parser.add_argument("--for-s", type=float, default=float("inf"), help="stop after so many seconds, between two points")
    given = parser.parse_args()
    done = run(Points(given.results), parts=[part for part in given.parts.split(",") if part], for_s=given.for_s)
    print("all points are there" if done else "time is up; call again to go on", file=sys.stderr)
    return 0 if done else 75


if __name__ == "__main__":
    sys.exit(main())
