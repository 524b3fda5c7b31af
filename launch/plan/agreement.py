"""The closed form beside traces of the training program, term by term, for the same rank of the same layout.

python -m launch.plan.agreement nano 8 0 parallel.tp=2 parallel.sp=true          # closed form, trace on fake tensors
python -m launch.plan.agreement --real nano 2 0 parallel.tp=2 parallel.sp=true   # and real processes on real tensors
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.plan.engines import WINDTUNNEL, for_recipe
from launch.plan.errors import PlanError
from launch.plan.memory import PHASES, STATES, RankMemory, rank_memory
from launch.plan.shapes import Layouts, ModelShape
from launch.plan.trace import resolved_layout, trace

Pairs = dict[str, tuple[float, float]]
OTHERS = "activations and workspace"


def closed_form(recipe: str, *, world_size: int, rank: int = 0, overrides: Sequence[str] = ()) -> RankMemory:
    """What the planner says of a rank, with the kernels that the trace runs on."""
    config = resolved_layout(recipe, overrides, world_size).config
    layouts = Layouts.of_recipe(
        config.parallel, num_gpus=world_size, micro_seqs=config.batch.micro_seqs,
        global_seqs=config.batch.global_tokens // config.block_tokens,
    )  # fmt: skip
    engine = for_recipe(WINDTUNNEL, config, on_cpu=True)
    stage = rank // (world_size // config.parallel.pp)
    return rank_memory(ModelShape.of_recipe(config.longest_model), layouts, engine, stage=stage)


def pairs_of(memory: RankMemory, traced: dict[str, Any]) -> Pairs:
    """Bytes at the peak of forward and backward: {term: (closed form, trace)}; "total" has all of them.

    Where no gradient existed before, the first backward pass trades activations for gradients: its begin and its end are the
    closed form's two phases, and the trace's peak may lie between. It is compared with the moment of as many gradients.
    """
    begin, end = (memory.at(phase) for phase in PHASES[:2])
    seen, full = traced["peak"].get("gradients", 0), float(end["gradients"][0])
    share = min(1.0, seen / full) if bool(memory.fresh[0]) and full else 0.0
    return _beside({name: float((1 - share) * begin[name][0] + share * end[name][0]) for name in begin}, traced)


def _beside(closed: dict[str, float], traced: dict[str, Any]) -> Pairs:
    peak = traced["peak"]
    pairs = {name: (closed[name], float(peak.get(name, 0))) for name in STATES}
    ours, theirs = (sum(size for name, size in sizes.items() if name not in STATES) for sizes in (closed, peak))
    pairs[OTHERS] = (ours, float(theirs))
    pairs["total"] = (sum(closed.values()), float(traced["forward_backward"]))
    return pairs


def compare(recipe: str, *, world_size: int, rank: int = 0, overrides: Sequence[str] = ()) -> Pairs:
    """Closed form and trace of one rank."""
    memory = closed_form(recipe, world_size=world_size, rank=rank, overrides=overrides)
    return pairs_of(memory, trace(recipe, world_size=world_size, rank=rank, overrides=overrides))


def worst(pairs: Pairs) -> float:
    """Largest difference of a term, as a fraction of the traced total."""
    total = pairs["total"][1]
    return max(abs(ours - theirs) / total for ours, theirs in pairs.values())


def real_traces(recipe: str, *, world_size: int, overrides: Sequence[str] = (), timeout_s: float = 400) -> list[dict[str, Any]]:
    """The same program on real tensors in as many real processes (gloo), each with its own memory tracker; by rank.

    Raises:
        PlanError: a rank failed; the end of its output is in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        ranks = []
        for rank in range(world_size):
            request = {
                "recipe": recipe, "world_size": world_size, "rank": rank, "overrides": list(overrides),
                "meeting": f"{folder}/meeting", "out": f"{folder}/{rank}.json",
            }  # fmt: skip
            command = [sys.executable, "-W", "ignore", "-m", "launch.plan.trace", json.dumps(request)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            ranks.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
        try:
            said = [process.communicate(timeout=timeout_s)[0] for process in ranks]
        finally:
            for process in ranks:
                process.kill()
        if failed := [rank for rank, process in enumerate(ranks) if process.returncode]:
            raise PlanError(f"rank {failed[0]} of a real trace failed:\n{said[failed[0]][-2000:]}")
        return [json.loads(Path(f"{folder}/{rank}.json").read_text(encoding="utf-8")) for rank in range(world_size)]


def main() -> None:
    arguments = [one for one in sys.argv[1:] if one != "--real"]
    recipe, world_size, rank, *overrides = arguments
    asked: dict[str, Any] = {"world_size": int(world_size), "overrides": overrides}
    pairs = compare(recipe, rank=int(rank), **asked)
    real = real_traces(recipe, **asked)[int(rank)] if "--real" in sys.argv else None
    measured = pairs_of(closed_form(recipe, rank=int(rank), **asked), real) if real else {}
    for name, (ours, theirs) in pairs.items():
        line = f"{name:28s} closed {ours / 2**20:10.3f} MiB   trace {theirs / 2**20:10.3f} MiB"
        print(line + (f"   real {measured[name][1] / 2**20:10.3f} MiB" if real else ""))


if __name__ == "__main__":
    main()
