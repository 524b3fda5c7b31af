"""Every layout that an engine accepts for a model on so many devices. Pure rules; what they forbid, they can say why.

table = legal_layouts(shape, engine, hardware, num_gpus=64, global_seqs=512)
"""

import itertools
from dataclasses import fields

import numpy as np

from launch.plan.hardware import Hardware
from launch.plan.shapes import RECOMPUTE, Engine, Layouts, ModelShape

MAX_VIRTUAL = 8
MICRO_SEQS = (1, 2, 4, 8, 16, 32, 64)


def divisors(number: int) -> list[int]:
    return [value for value in range(1, number + 1) if number % value == 0]


def illegal_reason(
    shape: ModelShape,
    engine: Engine,
    *,
    tp: int,
    pp: int,
    vp: int,
    cp: int,
    zero: int,
    mbs: int,
    num_gpus: int,
    global_seqs: int,
    ramp_seqs: tuple[int, ...] = (),
) -> str | None:
    """Why an engine refuses a layout, with the nearest values that it takes; None where it accepts."""
    for key, degree, holder, whole in (
        ("tp", tp, "attention heads", shape.num_heads), ("tp", tp, "key-value heads", shape.num_kv_heads),
        ("tp", tp, "FFN width", shape.ffn), ("cp", 2 * cp if cp > 1 else 1, "sequence length, in 2·cp parts", shape.seq_tokens),
        ("tp·pp·cp", tp * pp * cp, "GPUs", num_gpus),
    ):  # fmt: skip
        if whole % degree:
            near = [str(value) for value in divisors(whole) if degree / 4 <= value <= degree * 4][:4]
            return f"{key}={degree} does not divide {whole} {holder}; nearest: {', '.join(near) or '1'}"
    if pp > shape.num_layers or (vp > 1 and shape.num_layers % (pp * vp)):
        return f"pp·vp={pp * vp} does not divide {shape.num_layers} layers"
    if vp > 1 and pp == 1:
        return f"vp={vp} needs pp above 1"
    if zero not in engine.zero_stages:
        return f"{engine.name} has no ZeRO-{zero}; it has {', '.join(map(str, engine.zero_stages))}"
    if pp > 1 and zero > engine.max_zero_with_pp:
        return (
            f"ZeRO-{zero} with pp={pp} would hang in the engine's gathers; use ZeRO {engine.max_zero_with_pp} or less, or pp=1"
        )
    dp = num_gpus // (tp * pp * cp)
    for batch in ramp_seqs:
        if batch % (dp * mbs):
            return f"dp·mbs={dp}·{mbs} does not divide {batch} sequences, a batch that the recipe's ramp passes through"
    if global_seqs % (dp * mbs):
        sizes = [size for size in range(dp, global_seqs + 1, dp) if global_seqs % size == 0][:6]
        nearest = ", ".join(str(size // dp) for size in sizes)
        return f"the batch of {global_seqs} sequences is not a multiple of dp·mbs={dp}·{mbs}" + (
            f"; mbs that is: {nearest}" if sizes else ""
        )
    if vp > 1 and (global_seqs // (dp * mbs)) % pp:
        return f"interleaving needs a number of microbatches ({global_seqs // (dp * mbs)}) that pp={pp} divides"
    return None


def legal_layouts(
    shape: ModelShape, engine: Engine, hardware: Hardware, *, num_gpus: int, global_seqs: int, context: bool = True,
    offload: bool = True, micro_seqs: tuple[int, ...] = MICRO_SEQS, max_tp_nodes: int = 2,
    ramp_seqs: tuple[int, ...] = (),
) -> Layouts:  # fmt: skip
    """All of them as one table. Tensor parallelism spans at most max_tp_nodes nodes; sequence parallelism goes with it."""
    degrees = []
    for tp, cp in itertools.product(divisors(shape.num_kv_heads), _context_degrees(shape, num_gpus) if context else (1,)):
        if tp > hardware.gpus_per_node * max_tp_nodes or shape.num_heads % tp or shape.ffn % tp or num_gpus % (tp * cp):
            continue
        if tp * cp > 1 and shape.seq_tokens % (tp * cp):
            continue
        for pp in divisors(num_gpus // (tp * cp)):
            if pp > shape.num_layers:
                break
            per_stage = shape.num_layers // pp if shape.num_layers % pp == 0 else 1
            virtual = [v for v in divisors(per_stage) if v <= MAX_VIRTUAL] if pp > 1 and not engine.balance_head else [1]
            degrees += [(tp, pp, v, cp) for v in virtual]
    choices = [
        (mbs, zero, kind, away)
        for mbs in micro_seqs for zero in engine.zero_stages for kind in range(len(RECOMPUTE))
        for away in ((0, 1) if offload and zero else (0,))
    ]  # fmt: skip
    if not degrees:
        return _table(np.zeros((0, 4), dtype=np.int64), np.zeros((0, 4), dtype=np.int64), num_gpus, global_seqs)
    left = np.repeat(np.array(degrees, dtype=np.int64), len(choices), axis=0)
    right = np.tile(np.array(choices, dtype=np.int64), (len(degrees), 1))
    table = _table(left, right, num_gpus, global_seqs)
    batch = table.dp * table.mbs
    keep = np.all([seqs % batch == 0 for seqs in (global_seqs, *ramp_seqs)], axis=0) & ~(
        (table.pp > 1) & (table.zero > engine.max_zero_with_pp)
    )
    for seqs in (global_seqs, *ramp_seqs):
        keep &= ~((table.vp > 1) & (seqs // batch % table.pp != 0))
    keep &= ~((table.zero > 0) & (table.dp * table.cp == 1) & (table.offload == 0)) | (min(engine.zero_stages) > 0)
    if engine.flash and engine.selective == "attention":
        keep &= table.recompute != 1  # nothing is left to drop: a flash kernel keeps no scores
    return table[np.flatnonzero(keep)]


def _context_degrees(shape: ModelShape, num_gpus: int) -> list[int]:
    """Powers of two, only where sequences are long enough to be cut (at least 4,096 tokens a part)."""
    return [cp for cp in (1, 2, 4, 8, 16, 32) if cp == 1 or (shape.seq_tokens // cp >= 4096 and num_gpus % cp == 0)]


def _table(degrees: np.ndarray, choices: np.ndarray, num_gpus: int, global_seqs: int) -> Layouts:
    tp, pp, vp, cp = degrees.T
    mbs, zero, recompute, offload = choices.T
    dp = num_gpus // np.maximum(1, tp * pp * cp)
    count = np.maximum(1, global_seqs // np.maximum(1, dp * mbs))
    return Layouts(tp, pp, vp, cp, dp, (tp > 1).astype(np.int64), zero, mbs, recompute, count, offload)


def stack(tables: list[Layouts]) -> Layouts:
    """One table of several."""
    return Layouts(*(np.concatenate([getattr(one, column.name) for one in tables]) for column in fields(Layouts)))
