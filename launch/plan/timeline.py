"""One optimizer step of a pipeline, block by block: which stage runs which microbatch when, and where it waits.

Order of a stage's work: Megatron-Core's 1F1B and interleaved schedules (arXiv 2104.04473 §2.2). A block starts when its stage
is free and what it needs has come; messages take no time here, the bubble is what remains.

    blocks = timeline(forward_s=[1, 1], backward_s=[2, 2], vp=1, num_microbatches=4)
"""

from dataclasses import dataclass

from launch.plan.calibration import Calibration
from launch.plan.compute import Device
from launch.plan.memory import layers_at, stage_index
from launch.plan.search import Candidate, Problem
from launch.plan.steptime import microbatch_parts


@dataclass(frozen=True)
class Block:
    """A microbatch's forward or backward pass through one chunk of layers; seconds from the step's begin."""

    stage: int
    forward: bool
    chunk: int
    microbatch: int
    start_s: float
    end_s: float


def order(*, stage: int, pp: int, vp: int, num_microbatches: int) -> list[tuple[bool, int, int]]:
    """What a stage does in turn: (forward?, chunk, microbatch).

    Interleaved: chunks take turns every `pp` microbatches, forward in rising, backward in falling order.
    """
    total = vp * num_microbatches
    groups = [(index // (pp * vp), index % (pp * vp)) for index in range(total)]
    units = [(rest // pp, group * pp + rest % pp) for group, rest in groups] if vp > 1 else [(0, i) for i in range(total)]
    forwards = [(True, chunk, micro) for chunk, micro in units]
    backwards = [(False, vp - 1 - chunk, micro) for chunk, micro in units]
    warmup = min(total, 2 * (pp - stage - 1) + (vp - 1) * pp if vp > 1 else pp - stage - 1)
    steady = [one for pair in zip(forwards[warmup:], backwards) for one in pair]
    return forwards[:warmup] + steady + backwards[total - warmup :]


def timeline(*, forward_s: list[float], backward_s: list[float], vp: int, num_microbatches: int) -> list[Block]:
    """Every block of a step.

    Args:
        forward_s: One microbatch's forward pass on each stage, all its chunks together.
        backward_s: Likewise backward.
        vp: Chunks on a stage, of equal time.
        num_microbatches: A multiple of the stages where vp > 1.
    """
    pp = len(forward_s)
    waiting = [order(stage=stage, pp=pp, vp=vp, num_microbatches=num_microbatches) for stage in range(pp)]
    done = [0] * pp
    free_s = [0.0] * pp
    ends: dict[tuple[bool, int, int], float] = {}  # (forward?, place among all pp·vp chunks, microbatch)
    blocks: list[Block] = []
    while any(done[stage] < len(waiting[stage]) for stage in range(pp)):
        before = len(blocks)
        for stage in range(pp):
            while done[stage] < len(waiting[stage]):
                forward, chunk, micro = waiting[stage][done[stage]]
                place = chunk * pp + stage
                needs = _needs(forward, place, micro, last=pp * vp - 1)
                if needs is not None and needs not in ends:
                    break
                start = max(free_s[stage], ends[needs] if needs else 0.0)
                free_s[stage] = start + (forward_s if forward else backward_s)[stage] / vp
                ends[forward, place, micro] = free_s[stage]
                blocks.append(Block(stage, forward, chunk, micro, start, free_s[stage]))
                done[stage] += 1
        assert len(blocks) > before  # the schedule never waits for itself
    return blocks


def _needs(forward: bool, place: int, micro: int, *, last: int) -> tuple[bool, int, int] | None:
    if forward:
        return (True, place - 1, micro) if place else None
    return (False, place + 1, micro) if place < last else (True, last, micro)


def idle_frac(blocks: list[Block]) -> float:
    """Share of all stages' time in which they wait."""
    stages = 1 + max(block.stage for block in blocks)
    return 1 - sum(block.end_s - block.start_s for block in blocks) / (stages * max(block.end_s for block in blocks))


def stage_seconds(candidate: Candidate, problem: Problem, calibration: Calibration) -> tuple[list[float], list[float]]:
    """One microbatch's forward and backward seconds on each stage, visible communication inside layers included."""
    shape, engine, layouts = problem.shape, problem.engine, candidate.layouts
    parts = microbatch_parts(shape, layouts, engine, Device(problem.cluster.hardware, calibration, problem.precision))
    pp = int(layouts.pp[0])
    forward, backward = [], []
    for stage in range(pp):
        layers = float(layers_at(shape, layouts, engine, stage_index(shape, layouts, engine, stage))[0])
        head = stage == pp - 1
        forward.append(layers * float(parts["forward"][0]) + head * float(parts["head_forward"][0]))
        backward.append(layers * float(parts["backward"][0]) + head * float(parts["head_backward"][0]))
    return forward, backward
