"""Recipe × number of processes → every number final. Pure; no torch, no files.

Tokens are the clock. A stage ends with the first optimizer step that has consumed its tokens; where that lands is in the
resolved stage and `windtunnel show` prints it. What can't hold is a `ConfigError` naming the nearest values that can.
"""

import hashlib
import json
import math

from pydantic import Field

from megatron_patches.capabilities import names
from megatron_patches.errors import PatchError
from megatron_patches.mup.rules import Budget, betas_at
from recipe.config import RunConfig, Section, StageConfig, optional_key
from recipe.errors import ConfigError
from recipe.size import model_size

VOCAB_MULTIPLE = 128  # Megatron-LM's --make-vocab-size-divisible-by: each TP rank's rows are a multiple of it


class BatchSegment(Section):
    """Consecutive steps with one batch size."""

    first_step: int
    num_steps: int
    batch_seqs: int


class ResolvedStage(Section):
    """One stage in steps; `start` inclusive, `end` exclusive."""

    name: str
    start_step: int
    end_step: int
    start_tokens: int
    end_tokens: int
    segments: tuple[BatchSegment, ...]
    seq_length_tokens: int | None = optional_key()
    rope_base: float | None = optional_key()
    """Both None where they are the model's."""


class Layout(Section):
    """The degrees of parallelism, all of them."""

    tp: int
    pp: int
    vp: int
    cp: int
    dp: int
    sp: bool
    zero: int
    recompute: str
    offload_optimizer: bool
    layers_per_stage: tuple[int, ...]

    @property
    def world_size(self) -> int:
        return self.tp * self.pp * self.cp * self.dp

    def __str__(self) -> str:
        sp = " sp" if self.sp else ""
        return f"tp {self.tp} pp {self.pp} vp {self.vp} cp {self.cp} dp {self.dp}{sp} zero {self.zero}"


class DataRef(Section):
    """The shards of one source, pinned by the digests of their manifests."""

    train: str
    heldout: str | None
    train_sha256: str
    heldout_sha256: str | None


class BranchRef(Section):
    """Where a branch left its stable run."""

    parent: str
    checkpoint: str
    at_tokens: int


class ResolvedRun(Section):
    """What every rank reads; nothing in it is left to decide."""

    config: RunConfig
    layout: Layout
    stages: tuple[ResolvedStage, ...]
    padded_vocab_size: int
    num_parameters: int
    num_non_embedding_parameters: int
    tokenizer_dir: str | None = None
    tokenizer_sha256: str | None = None
    data: dict[str, DataRef] = Field(default_factory=dict)
    branch: BranchRef | None = None

    def as_trained(self, stage: str) -> "ResolvedRun":
        """With the model as this stage trains it: what its checkpoints are."""
        return self.model_copy(update={"config": self.config.model_copy(update={"model": self.config.model_at(stage)})})

    @property
    def num_steps(self) -> int:
        return self.stages[-1].end_step

    @property
    def total_tokens(self) -> int:
        return self.stages[-1].end_tokens

    def stage_at(self, step: int) -> int:
        """Index of the stage that a step (from 0) belongs to."""
        for index, stage in enumerate(self.stages):
            if step < stage.end_step:
                return index
        raise IndexError(f"step {step} is past the run's end, {self.num_steps}")

    def batch_seqs_at(self, step: int) -> int:
        for segment in self.stages[self.stage_at(step)].segments:
            if step < segment.first_step + segment.num_steps:
                return segment.batch_seqs
        raise IndexError(step)

    def tokens_before(self, step: int) -> int:
        """Tokens consumed by the steps before this one."""
        if step >= self.num_steps:
            return self.total_tokens
        stage = self.stages[self.stage_at(step)]
        seq = stage.seq_length_tokens or self.config.model.seq_length_tokens
        tokens = stage.start_tokens
        for segment in stage.segments:
            done = min(max(step - segment.first_step, 0), segment.num_steps)
            tokens += done * segment.batch_seqs * seq
        return tokens

    def identity(self) -> dict[str, str]:
        """What a checkpoint must agree on to be continued: readable name → digest or value."""
        config, mup = self.config, self.config.mup
        if mup.duration_tokens_base is not None:  # a branch has other stages and counts its run's duration
            mup = mup.model_copy(update={"duration_tokens": config.duration_tokens})
        plan = [stage.model_dump(mode="json") for stage in config.stages]
        sections = {
            "model": config.model, "mup": mup, "optim": config.optim, "batch": config.batch.global_tokens,
            "stages": plan, "seed": config.seed, "precision": config.precision,
        }
        values = {name: _text(value) for name, value in sections.items()}
        if config.block_tokens != config.model.seq_length_tokens:  # the ledger counts in it
            values["longest_sequence"] = str(config.block_tokens)
        values["tokenizer"] = self.tokenizer_sha256 or "none"
        values["data"] = _text({name: ref.train_sha256 for name, ref in sorted(self.data.items())})
        return values

    def plan_sha256(self) -> str:
        return hashlib.sha256(_text(self.identity()).encode()).hexdigest()


def _text(value: object) -> str:
    plain = value.model_dump(mode="json") if isinstance(value, Section) else value
    return json.dumps(plain, sort_keys=True)


def resolve(config: RunConfig, *, world_size: int) -> ResolvedRun:
    """Raises `ConfigError` for a layout, batch or stage that can't hold."""
    _check_backends(config)
    _check_budget(config)
    layout = resolve_layout(config, world_size=world_size)
    size = model_size(config.model)
    return ResolvedRun(
        config=config,
        layout=layout,
        stages=resolve_stages(config, layout),
        padded_vocab_size=padded_vocab_size(config.model.vocab_size, tp=layout.tp),
        num_parameters=size.num_total,
        num_non_embedding_parameters=size.num_non_embedding,
    )


def _check_backends(config: RunConfig) -> None:
    """That the names exist; whether they can be used is asked where the run starts."""
    for operation, name in config.backends.model_dump().items():
        if name is not None and name not in names(operation):
            raise ConfigError(f"backends.{operation}={name!r} is unknown; one of: {', '.join(names(operation))}")


def budget_of(config: RunConfig) -> Budget:
    """Batch and duration against those where the recipe's values were found; no difference where it doesn't name these."""
    base_batch, base_duration = config.mup.batch_tokens_base, config.mup.duration_tokens_base
    if base_batch is None or base_duration is None:
        return Budget()
    return Budget(
        batch_mult=config.batch.global_tokens / base_batch, duration_mult=config.duration_tokens / base_duration
    )


def _check_budget(config: RunConfig) -> None:
    """The rule for batch and duration wants one batch, one duration, and betas that stay above 0."""
    if config.mup.batch_tokens_base is None:
        return
    for stage in config.stages:
        if stage.batch is not None:
            raise ConfigError(
                f"mup.batch_tokens_base with stages.{stage.name}.batch: the batch grows from {stage.batch.from_tokens} to "
                f"{stage.batch.to_tokens}, and the rule carries values over to one batch; leave one of the two out"
            )
    if not config.duration_tokens:
        raise ConfigError("mup.duration_tokens_base: the recipe has no stages; write mup.duration_tokens")
    try:
        betas_at(budget_of(config).step_mult, config.optim.betas)
    except PatchError as error:
        raise ConfigError(f"mup.batch_tokens_base, duration_tokens_base: {error}") from error


def padded_vocab_size(vocab_size: int, *, tp: int) -> int:
    """Rows of the embedding: each tensor-parallel rank holds a multiple of 128 (65,280 → 65,536 at TP 4)."""
    multiple = VOCAB_MULTIPLE * tp
    return -(-vocab_size // multiple) * multiple


def resolve_layout(config: RunConfig, *, world_size: int) -> Layout:
    """The layout on so many processes; every rule that the engine holds is checked here."""
    model, parallel = config.model, config.parallel
    tp, pp, vp, cp = parallel.tp, parallel.pp, parallel.vp, parallel.cp
    lengths = {f"stages.{one.name}": one.seq_length_tokens for one in config.stages if one.seq_length_tokens}
    lengths["model"] = model.seq_length_tokens
    for key, number, holder, whole in (
        ("parallel.tp", tp, "model.num_heads", model.num_heads),
        ("parallel.tp", tp, "model.num_kv_heads", model.num_kv_heads),
        ("parallel.tp", tp, "model.ffn_hidden_size", model.ffn_hidden_size),
        *(("parallel.cp", 2 * cp if cp > 1 else 1, f"{whose}.seq_length_tokens (in 2·cp parts)", length)
          for whose, length in lengths.items()),
        *(("parallel.tp", tp * cp if parallel.sp else 1, f"{whose}.seq_length_tokens (times cp, under sp)", length)
          for whose, length in lengths.items()),
    ):  # fmt: skip
        if whole % number:
            kv_and_ffn = math.gcd(model.num_kv_heads, model.ffn_hidden_size)
            given, fits = (tp, kv_and_ffn) if key == "parallel.tp" else (cp, whole // 2)
            raise ConfigError(f"{key}={given} does not divide {holder}={whole}; nearest: {_divisors_near(fits, given)}")
    if world_size % (tp * pp * cp):
        raise ConfigError(
            f"parallel: tp·pp·cp={tp * pp * cp} does not divide the {world_size} processes; "
            f"nearest numbers of processes: {_multiples_near(world_size, tp * pp * cp)}"
        )
    if parallel.sp and tp == 1:
        raise ConfigError("parallel.sp=true needs parallel.tp above 1; with tp=1 write sp: false")
    if vp > 1 and pp == 1:
        raise ConfigError(f"parallel.vp={vp} needs parallel.pp above 1; with pp=1 write vp: 1")
    if parallel.zero == 3 and pp > 1:
        raise ConfigError(f"parallel.zero=3 with parallel.pp={pp} would hang in DeepSpeed's gathers; use zero 1 or 2, or pp 1")
    if model.reset_attention_at_document_end and cp > 1:
        raise ConfigError(
            f"model.reset_attention_at_document_end with parallel.cp={cp}: a rank's slices don't end where documents do; "
            "leave one of the two out"
        )
    if parallel.offload_optimizer and parallel.zero == 0:
        raise ConfigError("parallel.offload_optimizer needs parallel.zero of 1, 2 or 3")
    if parallel.offload_optimizer and config.backends.adam in ("apex", "transformer_engine"):
        raise ConfigError(f"backends.adam={config.backends.adam} steps GPU memory; with parallel.offload_optimizer use torch")
    if parallel.zero == 3 and config.faults.digest_every_steps:
        raise ConfigError("faults.digest_every_steps compares replicas; parallel.zero=3 keeps none: use zero 2, or drop it")
    return Layout(
        dp=world_size // (tp * pp * cp), layers_per_stage=_layers_per_stage(config),
        **parallel.model_dump(exclude={"layers_per_stage"}),
    )


def _layers_per_stage(config: RunConfig) -> tuple[int, ...]:
    model, parallel = config.model, config.parallel
    chunks = parallel.pp * parallel.vp
    if parallel.layers_per_stage is None:
        if model.num_layers % chunks:
            raise ConfigError(
                f"parallel.pp·vp={chunks} does not divide model.num_layers={model.num_layers}; "
                f"nearest: {_divisors_near(model.num_layers, chunks)}; or write parallel.layers_per_stage"
            )
        return (model.num_layers // parallel.pp,) * parallel.pp
    layers = tuple(parallel.layers_per_stage)
    if parallel.vp > 1:
        raise ConfigError("parallel.layers_per_stage goes with vp=1 only: Megatron-Core interleaves equal chunks")
    if len(layers) != parallel.pp or sum(layers) != model.num_layers or min(layers) < 1:
        raise ConfigError(
            f"parallel.layers_per_stage={list(layers)} must be {parallel.pp} numbers above 0 that sum to "
            f"model.num_layers={model.num_layers}"
        )
    return layers


def resolve_stages(config: RunConfig, layout: Layout) -> tuple[ResolvedStage, ...]:
    """Stages in steps. The batch after a ramp is the recipe's; each batch is checked against layout and micro batch."""
    if not config.stages:
        return ()
    stages: list[ResolvedStage] = []
    step = tokens = 0
    for stage in config.stages:
        segments, end_step, end_tokens = _segments(config, layout, stage, step=step, tokens=tokens)
        stages.append(
            ResolvedStage(
                name=stage.name, start_step=step, end_step=end_step, start_tokens=tokens, end_tokens=end_tokens,
                segments=tuple(segments), seq_length_tokens=stage.seq_length_tokens, rope_base=stage.rope_base,
            )
        )
        step, tokens = end_step, end_tokens
    return tuple(stages)


def _segments(
    config: RunConfig, layout: Layout, stage: StageConfig, *, step: int, tokens: int
) -> tuple[list[BatchSegment], int, int]:
    """Segments of one stage that starts at this step and token, with the step and tokens at its end."""
    start = tokens
    segments: list[BatchSegment] = []
    for until_tokens, batch_tokens in _ramp(config, stage):
        batch_seqs = _batch_seqs(config, layout, stage, batch_tokens)
        num_steps = -(-max(start + min(until_tokens, stage.tokens) - tokens, 0) // batch_tokens)
        if num_steps:
            segments.append(BatchSegment(first_step=step, num_steps=num_steps, batch_seqs=batch_seqs))
            step += num_steps
            tokens += num_steps * batch_tokens
    if not segments:
        raise ConfigError(f"stages.{stage.name}.tokens={stage.tokens}: a stage needs at least one step")
    return segments, step, tokens


def _ramp(config: RunConfig, stage: StageConfig) -> list[tuple[int, int]]:
    """(tokens of the stage up to which, tokens of a step), in order; the last reaches to the stage's end."""
    ramp = stage.batch
    if ramp is None:
        return [(stage.tokens, config.batch.global_tokens)]
    if ramp.to_tokens != config.batch.global_tokens:
        raise ConfigError(
            f"stages.{stage.name}.batch.to_tokens={ramp.to_tokens} must be batch.global_tokens={config.batch.global_tokens}, "
            "at which later stages go on"
        )
    num = ramp.num_increments
    if (ramp.to_tokens - ramp.from_tokens) % num:
        raise ConfigError(f"stages.{stage.name}.batch.num_increments={num} does not divide to_tokens − from_tokens")
    sizes = [ramp.from_tokens + (ramp.to_tokens - ramp.from_tokens) * k // num for k in range(num + 1)]
    ends = [ramp.over_tokens * (k + 1) // num for k in range(num)] + [stage.tokens]
    return list(zip(ends, sizes))


def _batch_seqs(config: RunConfig, layout: Layout, stage: StageConfig, batch_tokens: int) -> int:
    """Sequences of a step; every data-parallel rank runs a whole number of micro batches of them."""
    seq, micro = config.model_at(stage.name).seq_length_tokens, config.batch.micro_seqs
    unit = micro * layout.dp * (layout.pp if layout.vp > 1 else 1)
    rule = f"micro_seqs={micro} × dp={layout.dp}" + (f" × pp={layout.pp} (interleaved)" if layout.vp > 1 else "")
    whole = math.lcm(seq * unit, config.block_tokens)
    if batch_tokens <= 0 or batch_tokens % whole:
        whose = "batch.global_tokens" if batch_tokens == config.batch.global_tokens else f"stages.{stage.name}.batch"
        blocks = "" if whole == seq * unit else f", in whole blocks of the longest sequence, {config.block_tokens}: {whole}"
        raise ConfigError(
            f"{whose}={batch_tokens} in stage {stage.name} is not a multiple of seq_length_tokens={seq} × {rule} = {seq * unit}"
            f"{blocks}; nearest: {_multiples_near(batch_tokens, whole)}"
        )
    return batch_tokens // seq


def _divisors_near(whole: int, given: int) -> str:
    divisors = [n for n in range(1, whole + 1) if whole % n == 0]
    below = [n for n in divisors if n < given][-1:]
    above = [n for n in divisors if n > given][:1]
    return ", ".join(str(n) for n in below + above)


def _multiples_near(given: int, unit: int) -> str:
    below = given // unit * unit
    return ", ".join(str(n) for n in (below, below + unit) if n > 0)
