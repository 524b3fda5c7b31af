"""The closed form beside a trace of the training program, term by term, for the same rank of the same layout.

python -m launch.plan.agreement nano 8 0 parallel.tp=2 parallel.sp=true
"""

import sys
from collections.abc import Sequence

from launch.plan.engines import WINDTUNNEL, for_precision
from launch.plan.memory import PHASES, STATES, rank_memory
from launch.plan.shapes import Layouts, ModelShape
from launch.plan.trace import resolved_layout, trace


def compare(recipe: str, *, world_size: int, rank: int = 0, overrides: Sequence[str] = ()) -> dict[str, tuple[float, float]]:
    """Bytes at the peak of forward and backward: {term: (closed form, trace)}; "total" has all of them."""
    traced = trace(recipe, world_size=world_size, rank=rank, overrides=overrides)
    config = resolved_layout(recipe, overrides, world_size).config
    parallel = config.parallel
    layouts = Layouts.of_recipe(
        parallel, num_gpus=world_size, micro_seqs=config.batch.micro_seqs,
        global_seqs=config.batch.global_tokens // config.model.seq_length_tokens,
    )  # fmt: skip
    stage = rank // (world_size // parallel.pp)
    engine = for_precision(WINDTUNNEL, precision=config.precision, on_cpu=True)
    memory = rank_memory(ModelShape.of_recipe(config.model), layouts, engine, stage=stage)
    phase = max(PHASES[:2], key=lambda name: float(memory.phases()[name][0]))
    closed = {name: float(size[0]) for name, size in memory.at(phase).items()}
    peak = traced["peak"]
    pairs = {name: (closed[name], float(peak.get(name, 0))) for name in STATES}
    seen = sum(size for name, size in peak.items() if name not in STATES)
    pairs["activations and workspace"] = (sum(size for name, size in closed.items() if name not in STATES), float(seen))
    pairs["total"] = (sum(closed.values()), float(traced["forward_backward"]))
    return pairs


def worst(pairs: dict[str, tuple[float, float]]) -> float:
    """Largest difference of a term, as a fraction of the traced total."""
    total = pairs["total"][1]
    return max(abs(ours - theirs) / total for ours, theirs in pairs.values())


def main() -> None:
    recipe, world_size, rank, *overrides = sys.argv[1:]
    pairs = compare(recipe, world_size=int(world_size), rank=int(rank), overrides=overrides)
    for name, (ours, theirs) in pairs.items():
        print(
            f"{name:28s} closed {ours / 2**20:12.3f} MiB   trace {theirs / 2**20:12.3f} MiB   {100 * (ours / theirs - 1) if theirs else 0:+.2f} %"  # noqa: E501
        )


if __name__ == "__main__":
    main()
