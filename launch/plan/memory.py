"""Bytes on one rank, term by term, in closed form, for a table of layouts at once.

    rank_memory(shape, layouts, engine, stage="first").at("optimizer")   # {"weights": [...], "gradients": [...], ...}

Sources: states by ZeRO stage, arXiv 1910.02054 §5; activations per layer, arXiv 2205.05198 §4 (34·s·b·h without the attention
matrix; its parts are listed at `layer_activations`); microbatches in flight, Megatron-LM's 1F1B and interleaved schedules
(arXiv 2104.04473 §2.2); buffers from DeepSpeed's and Megatron's defaults. `plan --trace` counts the same terms on the real
program; tests/launch/plan/test_trace.py holds the two together.

Not modelled: dataloader buffers, CUDA graphs, cuDNN/cuBLAS workspaces above 64 MiB, checkpoint staging.
"""

from dataclasses import dataclass

import numpy as np

from launch.plan.hardware import GIB, Hardware
from launch.plan.shapes import Engine, Layouts, ModelShape, layer_table, padded_vocab

NOT_MODELLED = (
    "dataloader buffers",
    "CUDA graphs",
    "library workspaces above 64 MiB",
    "checkpoint staging",
    "allocator pathologies (up to 2x)",
)
ALLOCATOR_FRAC = 0.94  # allocated ≈ 0.94 of reserved (SimuMax's records; expandable segments do better)
CONTEXT_BYTES = 550e6  # CUDA context, libraries, loaded kernels
NCCL_BYTES = 370e6  # first communicator, 2 to 8 GPUs: 340 to 390 MB; later ones about a third
FLUSH_PARAMS = 5e8  # DeepSpeed reduce_bucket_size, in elements
LIVE_PARAMS = 1e9  # DeepSpeed stage3_max_live_parameters
PERSISTENT_PARAMS = 1e5  # DeepSpeed stage3_param_persistence_threshold
FINAL_NORM = "activations: final norm"
TIED = "tied embedding's gradient"
PHASES = ("forward and backward", "last microbatches' backward", "optimizer")
STATES = ("weights", "gradients", "gradient shards", "masters", "moments")

Terms = dict[str, np.ndarray]


@dataclass(frozen=True)
class Totals:
    """Bytes on the fullest rank. allocated: live tensors; reserved: what the allocator holds; device: everything."""

    allocated: np.ndarray
    reserved: np.ndarray
    device: np.ndarray
    peak_stage: np.ndarray
    peak_phase: np.ndarray


STAGES = ("first", "widest", "middle", "last")


def stage_index(shape: ModelShape, layouts: Layouts, engine: Engine, stage: str | int) -> np.ndarray:
    """Index of a named stage in every layout; a number is clipped to the last stage. widest: the first with most layers."""
    last = layouts.pp - 1
    if stage == "widest":
        table, kind = layer_table(shape, layouts.pp, balance_head=engine.balance_head)
        return table.argmax(axis=1)[kind]
    if isinstance(stage, int):
        return np.minimum(stage, last)
    return {"first": 0 * last, "middle": layouts.pp // 2, "last": last}[stage]


def layers_at(shape: ModelShape, layouts: Layouts, engine: Engine, stage: np.ndarray) -> np.ndarray:
    """Layers that each layout puts on its `stage`."""
    table, kind = layer_table(shape, layouts.pp, balance_head=engine.balance_head)
    return table[kind, stage]


def stage_params(shape: ModelShape, layouts: Layouts, engine: Engine, stage: np.ndarray) -> np.ndarray:
    """Parameters on one rank of the stage. Norm gains are whole on every TP rank; the vocabulary is on both ends."""
    layers = layers_at(shape, layouts, engine, stage)
    first, last = stage == 0, stage == layouts.pp - 1
    layer = shape.layer_matrix_params / layouts.tp + (shape.layer_params - shape.layer_matrix_params)
    vocab = padded_vocab(shape, layouts.tp) * shape.hidden / layouts.tp
    copies = first.astype(int) + (last & ~(first & shape.tied)).astype(int)
    return layers * layer + copies * vocab + last * shape.hidden


def layers_in_flight(shape: ModelShape, layouts: Layouts, engine: Engine, stage: np.ndarray) -> np.ndarray:
    """Layer activations alive at the peak: microbatches in flight times layers (interleaved: chunks times theirs)."""
    layers = layers_at(shape, layouts, engine, stage)
    plain = np.minimum(layouts.num_microbatches, layouts.pp - stage)
    chunks = np.minimum(2 * (layouts.pp - stage - 1) + (layouts.vp - 1) * layouts.pp + 1, layouts.vp * layouts.num_microbatches)
    return np.where(layouts.vp > 1, chunks * layers / layouts.vp, plain * layers)


def layer_activations(shape: ModelShape, layouts: Layouts, engine: Engine) -> Terms:
    """Bytes one layer keeps for the backward pass of one microbatch, by kind, without recomputation.

    In units of tokens on this rank (b·s/c): two norms, 4h each (÷t under sequence parallelism) and their statistics; query, key
    and value 2(h+2k), again 2(h+k) after an unfused rotary embedding, whose tables add 8d a position; attention's output 2h
    and softmax statistics 4a; SwiGLU 6f (8f, 10f unfused), GELU 4f; dropout masks 2h; without flash 5·a·s for scores.
    """
    h, f, kv = shape.hidden, shape.ffn, shape.kv_hidden
    positions = shape.seq_tokens / layouts.cp
    tokens = layouts.mbs * positions
    t = layouts.tp
    n = np.where(layouts.sp > 0, t, 1)
    gathered = 4 * h * (1 - 1 / n) if engine.saves_gathered else 0
    rotary = shape.gated and engine.rotary_copies
    wide = engine.value_bytes / 2
    terms = {
        "norms": tokens * ((2 * engine.norm_bytes * h + 8) / n + gathered),
        "qkv": wide * tokens * (2 * (h + 2 * kv) + (2 * (h + kv) if rotary else 0)) / t
        + (wide * 8 * shape.head_size * positions if rotary else 0),
        "attention": tokens * (engine.value_bytes * h + 4 * shape.num_heads) / t,
        "mlp": wide * tokens * (engine.mlp_bytes if shape.gated else 4) * f / t,
    }
    if engine.masked_context:  # the query; keys and values whole; masks of both slices (s/2c rows each); outputs before the cat
        query = tokens * engine.value_bytes * h / t + (wide * 8 * shape.head_size * positions if rotary else 0)
        whole = 2 * kv / t * layouts.mbs * shape.seq_tokens + tokens * h / t
        masks = shape.seq_tokens**2 * (2 * layouts.cp + 1) / (4 * layouts.cp**2)
        terms["qkv"] = np.where(layouts.cp > 1, query, terms["qkv"])
        terms["attention"] = terms["attention"] + np.where(layouts.cp > 1, engine.value_bytes * (whole + masks), 0.0)
    if engine.dropout:
        terms["dropout"] = tokens * 2 * h / n
    if not engine.flash:
        terms["scores"] = tokens * 5 * shape.num_heads * shape.seq_tokens / t
    return terms


def _activations(shape: ModelShape, layouts: Layouts, engine: Engine, stage: np.ndarray) -> Terms:
    kept = layer_activations(shape, layouts, engine)
    in_flight = layers_in_flight(shape, layouts, engine, stage)
    tokens = layouts.mbs * shape.seq_tokens / layouts.cp
    n = np.where(layouts.sp > 0, layouts.tp, 1)
    full, selective = layouts.recompute == 2, layouts.recompute == 1
    whole = sum(kept.values())
    by_op = selective & (engine.selective == "op")
    terms = {}
    for kind, size in kept.items():
        dropped = full | by_op | (selective & (kind == "scores"))
        terms[f"activations: {kind}"] = np.where(dropped, 0.0, in_flight * size)
    inputs = tokens * engine.value_bytes * shape.hidden / n
    # every other product of (q, k, v, out, gate, up, down), and attention's output
    products = tokens * (6 * shape.hidden + 2 * shape.kv_hidden + 2 * shape.ffn) / layouts.tp
    checkpoints = in_flight * (np.where(full | by_op, inputs, 0.0) + np.where(by_op, products, 0.0))
    reworked = np.where(full | by_op, whole, np.where(selective, kept.get("scores", 0.0), 0.0))
    return terms | {"activations: checkpoints": checkpoints, "recomputed layer": reworked}


def _ends(shape: ModelShape, layouts: Layouts, engine: Engine, stage: np.ndarray) -> Terms:
    """What a stage keeps besides its layers: the output of each microbatch in flight, or under the interleaved schedule of each
    chunk in flight (but the model's last); on the last stage the final norm, until backward has passed it.
    """
    tokens = layouts.mbs * shape.seq_tokens / layouts.cp
    n = np.where(layouts.sp > 0, layouts.tp, 1)
    last = stage == layouts.pp - 1
    layers = np.maximum(1, layers_at(shape, layouts, engine, stage))
    flying = layers_in_flight(shape, layouts, engine, stage) * layouts.vp / layers
    flying = np.where(last, flying * (layouts.vp - 1) / layouts.vp, flying)
    outputs = engine.value_bytes * shape.hidden * flying
    norm = np.where(last, (engine.norm_bytes + engine.value_bytes) * shape.hidden + 4, 0.0)
    return {"activations: stage ends": tokens * outputs / n, FINAL_NORM: tokens * norm / n}


def _transient(shape: ModelShape, layouts: Layouts, engine: Engine, stage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alive for a moment at the peak: (inside a layer's backward pass, at the loss).

    Backward: the MLP's gradients (6f, while 2f of what was kept is gone) and the stream's, 8h (under sequence parallelism 4h
    of it gathered, whole); or, later, the first MLP matrix's gradient in its own width and as it is added in fp32. Loss:
    logits with their copies; or their gradient beside the head's.
    """
    tokens = layouts.mbs * shape.seq_tokens / layouts.cp
    h, f, t, wide = shape.hidden, shape.ffn, layouts.tp, engine.value_bytes / 2
    n = np.where(layouts.sp > 0, t, 1)
    unfused = 0  # bytes a weight: its gradient, and (from bf16) as it is added in fp32
    if engine.flush_bytes:
        unfused = 6 if engine.value_bytes == 2 else 4
    gathered = wide * 4 * h * (1 - 1 / n)
    matrix = unfused * (2 if shape.gated else 1) * h * f / t
    inside = np.maximum(
        wide * tokens * (4 * np.maximum(f, h) / t + 8 * h / n) + gathered * tokens, matrix - wide * tokens * 2 * f / t
    )
    rows = padded_vocab(shape, t) / t
    if engine.loss_chunk_bytes:
        whole = np.where(n > 1, engine.value_bytes * tokens * h, 0.0)  # the head's input, gathered for the chunks
        return inside, np.where(stage == layouts.pp - 1, whole + _chunked_loss(shape, engine, tokens, rows), 0.0)
    loss = np.maximum((engine.logit_bytes * rows + 2 * wide * h / n) * tokens, 2 * wide * tokens * rows + unfused * rows * h)
    return inside, np.where(stage == layouts.pp - 1, loss, 0.0)


def _chunked_loss(shape: ModelShape, engine: Engine, tokens: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Head and loss by chunks, gradients at once: one chunk of logits (in fp32, and in bf16 as their gradient), the head's
    gradient in fp32 and the product that is added to it, the gradient of all tokens.
    """
    chunk = engine.loss_chunk_tokens(tokens, rows)
    twice = 4 + (engine.value_bytes if engine.value_bytes == 2 else 0)
    return twice * rows * (chunk + shape.hidden) + engine.value_bytes * tokens * shape.hidden


def _buffers(shape: ModelShape, layouts: Layouts, engine: Engine, params: np.ndarray) -> np.ndarray:
    """Gathered weights (ZeRO-3), reduction buckets, pipeline messages, gathered inputs (sequence parallelism).

    DeepSpeed keeps what it gathered while at most 1e9 elements live; FSDP two units at a time.
    """
    d = layouts.dp * layouts.cp
    tokens = layouts.mbs * shape.seq_tokens / layouts.cp
    unit = np.maximum(shape.layer_params, shape.vocab_params) / layouts.tp
    if engine.persists_small:
        whole = engine.value_bytes * np.minimum(params, LIVE_PARAMS)
    else:
        whole = 2 * (2 * unit) + (4 * unit if engine.shards_grads else 0)
    gathered = np.where((layouts.zero == 3) & (d > 1), whole, 0.0)
    bucket = np.where(
        (d > 1) & (layouts.zero < 3), np.minimum(0.0 if engine.flush_bytes else engine.bucket_bytes, 4 * params), 0.0
    )
    messages = np.where(layouts.pp > 1, 4 * tokens * shape.hidden / np.where(layouts.sp > 0, layouts.tp, 1), 0.0)
    inputs = np.where(
        (layouts.sp > 0) & (layouts.tp > 1), engine.value_bytes * tokens * shape.hidden, 0.0
    )  # one, kept for reuse
    return gathered + bucket + messages + (inputs if engine.flush_bytes else 0.0)


def _persistent(shape: ModelShape, layouts: Layouts) -> np.ndarray:
    """Parameters of a layer in tensors that DeepSpeed's ZeRO-3 keeps whole (at most 1e5 elements each)."""
    h, f, kv, t = shape.hidden, shape.ffn, shape.kv_hidden, layouts.tp
    sizes = (h * (h + 2 * kv) / t, h * h / t, (2 if shape.gated else 1) * h * f / t, f * h / t, h + 0 * t, h + 0 * t)
    return np.asarray(sum(np.where(size <= PERSISTENT_PARAMS, size, 0.0) for size in sizes))


@dataclass(frozen=True)
class RankMemory:
    """Terms of one rank, and when they meet. `units`: microbatches (chunks) in flight; `fresh`: no gradient exists yet then."""

    terms: Terms
    units: np.ndarray
    fresh: np.ndarray

    def at(self, phase: str) -> Terms:
        """Bytes by term alive in a phase; they add up to its allocated bytes."""
        terms = self.terms
        alive = {name: terms[name] for name in STATES}
        if phase == "optimizer":
            return alive | {name: terms[name] for name in ("buffers", "flush")}
        first = phase == PHASES[0]
        kept = np.ones_like(self.units) if first else np.where(self.fresh, 1 - 1 / self.units, 0.0)
        if first:
            alive["gradients"] = np.where(self.fresh, 0.0, alive["gradients"])
        alive |= {name: kept * size for name, size in terms.items() if name.startswith("activations")}
        moments = self._moments(alive, first=first)
        sizes = np.stack([np.asarray(sum(moment.values())) for moment in moments])
        chosen = sizes.argmax(axis=0)
        at_peak = {name: np.choose(chosen, [moment[name] for moment in moments]) for name in moments[0]}
        return alive | at_peak | {"buffers": terms["buffers"]}

    def _moments(self, alive: Terms, *, first: bool) -> tuple[Terms, ...]:
        """What of a phase isn't alive throughout, at each moment that can be its peak: the loss (in the first phase), backward
        through the last layer, and backward through the embedding, which tied to the head finds the head's gradient waiting:
        autograd adds both before it accumulates them. A gradient that is fresh then is the sum itself.
        """
        terms, none = self.terms, np.zeros_like(self.units)
        names = ("logits and loss", "recomputed layer", "backward workspace", TIED)
        passing = {name: size for name, size in alive.items() if name.startswith("activations")}
        nothing = dict.fromkeys(names, none)
        waiting = terms[TIED] if first else np.where(self.fresh, 0.0, terms[TIED])
        added = np.where(self.fresh, 0.0 if first else 2.0, 3.0) * terms[TIED]
        loss = passing | nothing | {"logits and loss": terms["logits and loss"] if first else none}
        layer = passing | {name: terms[name] for name in names} | {FINAL_NORM: none, "logits and loss": none, TIED: waiting}
        embedding = dict.fromkeys(passing, none) | nothing | {TIED: added}
        return loss, layer, embedding

    def phases(self) -> dict[str, np.ndarray]:
        return {phase: np.asarray(sum(self.at(phase).values())) for phase in PHASES}


def rank_memory(shape: ModelShape, layouts: Layouts, engine: Engine, *, stage: str | int | np.ndarray = "first") -> RankMemory:
    """Bytes on one rank of a pipeline stage, by term.

    Args:
        stage: "first", "widest", "middle", "last", an index, or one index per layout.
    """
    where = stage if isinstance(stage, np.ndarray) else stage_index(shape, layouts, engine, stage)
    params = stage_params(shape, layouts, engine, where)
    d = layouts.dp * layouts.cp
    sharded = np.where(layouts.zero >= 1, d, 1)
    grads_sharded = (layouts.zero >= 2) & engine.shards_grads
    inside, loss = _transient(shape, layouts, engine, where)
    on_device = np.where(layouts.offload > 0, 0.0, 1.0)
    layers = layers_at(shape, layouts, engine, where)
    vocab = padded_vocab(shape, layouts.tp) * shape.hidden / layouts.tp
    zero3 = (layouts.zero == 3) & (d > 1)
    whole = np.where(zero3 & (engine.persists_small), layers * _persistent(shape, layouts), 0.0)
    terms = {
        "weights": engine.weight_bytes * (params / np.where(zero3, d, 1) + whole),
        "gradients": engine.grad_bytes * params / np.where(grads_sharded, d, 1)
        + engine.ddp_grad_bytes * params * (d > 1) * (1 + (layouts.num_microbatches > 1)),
        # DeepSpeed's ZeRO-3 keeps a flat buffer for its shard of the reduced gradients, as wide as the weights
        "gradient shards": on_device * np.where(zero3 & engine.persists_small, engine.value_bytes * params / d, 0.0),
        "masters": on_device * (4.0 if engine.has_master else 0.0) * params / sharded,
        "moments": on_device * 8.0 * params / sharded,
        **_activations(shape, layouts, engine, where),
        **_ends(shape, layouts, engine, where),
        "logits and loss": loss,
        "backward workspace": inside,
        TIED: np.where((layouts.pp == 1) & shape.tied, engine.waiting_grad_bytes * vocab, 0.0),
        "buffers": _buffers(shape, layouts, engine, params),
        "flush": np.where(d > 1, engine.flush_bytes * np.minimum(params, FLUSH_PARAMS), 0.0),
    }
    units = np.maximum(1.0, layers_in_flight(shape, layouts, engine, where) * layouts.vp / np.maximum(1, layers))
    fresh = engine.fresh_grads & (units >= layouts.num_microbatches * layouts.vp)
    return RankMemory(terms, units, fresh)


def totals(shape: ModelShape, layouts: Layouts, engine: Engine, hardware: Hardware, *, scale: float = 1.0) -> Totals:
    """The three totals at the fullest of the first, widest, middle and last stage. scale: measured over predicted bytes."""
    stages = np.stack([stage_index(shape, layouts, engine, name) for name in STAGES])
    peaks = [rank_memory(shape, layouts, engine, stage=stage).phases() for stage in stages]
    phases = list(PHASES)
    grid = np.stack([np.stack([peak[phase] for phase in phases]) for peak in peaks])  # [stage, phase, layout]
    flat = grid.reshape(-1, grid.shape[-1])
    winner = flat.argmax(axis=0)
    allocated = flat.max(axis=0) * scale
    return Totals(
        allocated=allocated,
        reserved=allocated / ALLOCATOR_FRAC,
        device=device_bytes(layouts, allocated, hardware),
        peak_stage=stages[winner // len(phases), np.arange(len(layouts))],
        peak_phase=np.array(phases)[winner % len(phases)],
    )


def device_bytes(layouts: Layouts, allocated: np.ndarray, hardware: Hardware) -> np.ndarray:
    """Reserved bytes plus what no allocator sees: context and communicators (none of it on a CPU)."""
    if hardware.kind == "cpu":
        return allocated / ALLOCATOR_FRAC
    communicators = sum((degree > 1).astype(int) for degree in (layouts.tp, layouts.pp, layouts.cp, layouts.dp))
    nccl = np.where(communicators > 0, NCCL_BYTES * (1 + (communicators - 1) / 3), 0.0)
    return allocated / ALLOCATOR_FRAC + CONTEXT_BYTES + nccl


def fit_verdict(total: Totals, layouts: Layouts, hardware: Hardware) -> np.ndarray:
    """ "fits" (with the headroom), "tight" (live tensors fit; headroom or allocator's slack does not) or "no"."""
    least = total.device - (total.reserved - total.allocated)
    return np.where(total.device <= hardware.usable_bytes, "fits", np.where(least <= hardware.memory_bytes, "tight", "no"))


def gib(value: float) -> float:
    return float(value) / GIB
