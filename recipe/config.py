"""What a run is: the typed recipe, validated field by field. Pure data, no torch.

`recipe/load.py` reads YAML into these models; `recipe/resolve.py` crosses them with a number of processes. A value that
follows from others (steps, data-parallel degree, padded vocabulary) has no key here: it can't be written, only shown.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from data_prep.sources import SourceSpec
from recipe.units import parse_bytes, parse_seconds, parse_tokens


def _pydantic_value(parse):  # pydantic reports ValueError with the key it belongs to; ours is a ConfigError
    def convert(value):
        try:
            return parse(value)
        except Exception as error:
            raise ValueError(str(error)) from error

    return convert


Tokens = Annotated[int, BeforeValidator(_pydantic_value(parse_tokens)), Field(ge=0)]
Bytes = Annotated[int, BeforeValidator(_pydantic_value(parse_bytes)), Field(ge=0)]
Seconds = Annotated[float, BeforeValidator(_pydantic_value(parse_seconds)), Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def optional_key(default: Any = None, **limits: Any) -> Any:
    """A key that is written down only where it says something, so that what older runs wrote still compares equal."""
    return Field(default=default, exclude_if=lambda value: value == default, **limits)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class ModelConfig(Section):
    """A Llama-like decoder: RMSNorm, RoPE, SwiGLU, no biases, grouped-query attention."""

    num_layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    ffn_hidden_size: int = Field(ge=1)
    """Width of the SwiGLU hidden layer (of each of its two input projections)."""
    num_heads: int = Field(ge=1)
    num_kv_heads: int = Field(ge=1)
    """Key-value heads; num_heads for multi-head attention."""
    seq_length_tokens: int = Field(ge=1)
    vocab_size: int = Field(ge=2)
    """Pieces of the tokenizer; padding to what tensor parallelism needs is derived and never exported."""
    tied: bool = True
    """One matrix serves as input embedding and output head."""
    rope_base: float = Field(default=10000.0, gt=1)
    norm_eps: float = Field(default=1e-5, gt=0)
    reset_attention_at_document_end: bool = False
    """Tokens attend only within their own document of a packed sequence."""

    @property
    def head_size(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of num_heads={self.num_heads}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads={self.num_heads} is not a multiple of num_kv_heads={self.num_kv_heads}")
        if self.head_size % 2:
            raise ValueError(f"head size hidden_size/num_heads={self.head_size} is odd; rotary embeddings need it even")
        return self


class MupConfig(Section):
    """How hyperparameters carry over between sizes; the table is megatron_patches/mup/rules.py."""

    parametrization: Literal["standard", "minicpm", "tensor_programs", "completep", "native"] = "minicpm"
    dim_model_base: int = Field(default=256, ge=1)
    """Width at which all multipliers are one."""
    num_layers_base: int = Field(default=8, ge=1)
    """Depth at which all depth multipliers are one (completep only)."""
    scale_emb: float = Field(default=12.0, gt=0)
    scale_depth: float = Field(default=1.4, gt=0)
    init_std: float = Field(default=0.1, gt=0)
    alpha: float = Field(default=1.0, ge=0.5, le=1.0)
    """Depth exponent of completep (arXiv 2505.01618)."""
    batch_tokens_base: Tokens | None = optional_key(gt=0)
    """Tokens of a step where optim's values were found; goes with duration_tokens_base. None: optim holds as it is written."""
    duration_tokens_base: Tokens | None = optional_key(gt=0)
    """Tokens of the training where they were found: learning rate, betas, eps and weight decay carry over from there."""
    duration_tokens: Tokens | None = optional_key(gt=0)
    """Tokens of this training as that rule counts them; the stages' sum where absent."""

    @model_validator(mode="after")
    def _both_bases(self) -> Self:
        if (self.batch_tokens_base is None) != (self.duration_tokens_base is None):
            raise ValueError(
                "batch_tokens_base and duration_tokens_base go together: the rule wants batch ÷ duration, here and where the "
                "values were found"
            )
        if self.duration_tokens is not None and self.duration_tokens_base is None:
            raise ValueError("duration_tokens goes with batch_tokens_base and duration_tokens_base")
        return self


class TokenizerConfig(Section):
    """A tokenizer to train here, or one that exists."""

    kind: Literal["unigram", "file", "huggingface"] = "unigram"
    """unigram: trained by `windtunnel tokenizer`; file: a SentencePiece model; huggingface: a tokenizer.json."""
    vocab_size: int | None = None
    """Must equal model.vocab_size where written."""
    train_on: dict[str, float] = Field(default_factory=dict)
    """Share of each source in the training sample, by bytes."""
    train_bytes: Bytes = 100 * 10**6
    path: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind != "unigram" and not self.path:
            raise ValueError(f"path is missing: kind {self.kind} needs the tokenizer's file")
        if self.kind == "unigram" and self.path:
            raise ValueError("path is for kind file or huggingface; kind unigram is trained on train_on")
        if any(share <= 0 for share in self.train_on.values()):
            raise ValueError("train_on shares must be above 0")
        return self


class SourceConfig(Section):
    """One corpus. A source is one shuffled stream over the whole run, whatever stages draw from it."""

    kind: Literal["jsonl", "parquet", "text", "directory", "python", "sft"] = "jsonl"
    path: str | list[str] = Field(default_factory=list)
    """Files or glob patterns; .gz and .zst are read as they are."""
    field: str = "text"
    """Key or column that holds the text."""
    what: str | None = None
    """Part of the local Python installation (kind python): stdlib_code, docs, math, doctests."""
    category: str | None = None
    """SFT category: math, code, logic, knowledge, commonsense."""
    heldout_frac: Fraction = 0.005
    """Share of documents set aside for evaluation, chosen by content, before anything else sees them."""
    loss_on: Literal["all", "responses"] = "all"
    """Tokens that count in the loss (kinds with prompts and responses)."""
    chat_template: str | None = None
    """File with a Jinja chat template; the built-in one where absent."""
    prompt_variants: int = Field(default=0, ge=0, le=1000)
    """How often each record is written, its prompt worded by another rule each time; 0: once, as it is."""
    prompt_seed: int = 0
    """Another seed gives every prompt other wordings."""
    rejects_max_frac: Fraction = 0.001
    """Share of bad records above which tokenizing fails."""

    @property
    def paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else list(self.path)

    def spec(self, name: str) -> SourceSpec:
        """The same facts for data_prep."""
        return SourceSpec(name=name, paths=tuple(self.paths), **self.model_dump(exclude={"path"}))


class RampConfig(Section):
    """A batch that grows by equal increments over the first tokens of a stage."""

    from_tokens: Tokens
    to_tokens: Tokens
    over_tokens: Tokens
    num_increments: int = Field(default=1, ge=1)
    """1: a single jump from from_tokens to to_tokens, at over_tokens."""


class LrConfig(Section):
    """Shape of the learning rate within one stage (megatron_patches/wsd/schedule.py). Each begins at the peak, but for hold."""

    shape: Literal["constant", "hold", "half_life", "exponential", "linear", "cosine", "one_minus_sqrt"] = "constant"
    """hold: stays where the stage before it ended, as a constant tail after a decay."""
    half_life_tokens: Tokens | None = None
    """T of 0.5^((s−S)/T), in tokens (half_life only)."""
    floor_frac: Fraction = 0.0
    """Least learning rate, as a share of the peak."""
    rewarm_tokens: Tokens = optional_key(0)
    """Linear way from where the stage before it ended back to the peak (repeated decays); 0: at once."""

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if (self.shape == "half_life") != (self.half_life_tokens is not None):
            raise ValueError("half_life_tokens goes with shape half_life, and only with it")
        if self.shape in ("constant", "hold") and self.floor_frac:
            raise ValueError(f"floor_frac={self.floor_frac:g} goes with a decay; shape {self.shape} has none")
        if self.shape == "hold" and self.rewarm_tokens:
            raise ValueError("rewarm_tokens leads back to the peak; shape hold stays below it: leave one of the two out")
        return self


class StageConfig(Section):
    """A stretch of training with one mixture."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    tokens: Tokens
    mixture: dict[str, float]
    """Source → percentage of tokens; sums to 100."""
    batch: RampConfig | None = None
    lr: LrConfig = LrConfig()
    seq_length_tokens: int | None = optional_key(ge=1)
    """Of this stage's sequences (context extension); model.seq_length_tokens where absent. The batch in tokens stays."""
    rope_base: float | None = optional_key(gt=1)
    """Base of this stage's rotary embedding; model.rope_base where absent."""

    @model_validator(mode="after")
    def _mixture(self) -> Self:
        if not self.mixture:
            raise ValueError("mixture is empty; name at least one source with its percentage")
        if wrong := [name for name, weight in self.mixture.items() if weight <= 0]:
            raise ValueError(f"mixture.{wrong[0]} must be above 0; leave out a source that isn't drawn from")
        total = sum(self.mixture.values())
        if abs(total - 100) > 0.01:
            raise ValueError(f"mixture sums to {total:g}, not 100")
        if self.lr.rewarm_tokens > self.tokens:
            raise ValueError(f"lr.rewarm_tokens={self.lr.rewarm_tokens} is longer than the stage's tokens={self.tokens}")
        return self


class OptimConfig(Section):
    """AdamW; every rate is the base rate that the muP table multiplies by role."""

    peak_lr: float = Field(gt=0)
    warmup_tokens: Tokens = 0
    weight_decay: float = Field(default=0.1, ge=0)
    weight_decay_mode: Literal["coupled", "independent"] = "coupled"
    """coupled: lr × wd shrinks the weights (torch's AdamW); independent: wd alone does, at any width."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    clip: float = Field(default=1.0, gt=0)
    """Bound on the one global gradient norm."""


class BatchConfig(Section):
    global_tokens: Tokens
    """Tokens per optimizer step, over all processes."""
    micro_seqs: int = Field(default=1, ge=1)
    """Sequences that one process runs at once."""


class ParallelConfig(Section):
    """Degrees of parallelism; the data-parallel degree is what remains of the processes."""

    tp: int = Field(default=1, ge=1)
    pp: int = Field(default=1, ge=1)
    vp: int = Field(default=1, ge=1)
    """Virtual stages on each pipeline stage (interleaved schedule)."""
    cp: int = Field(default=1, ge=1)
    sp: bool = False
    """Sequence parallelism (needs tp > 1)."""
    zero: Literal[0, 1, 2, 3] = 1
    recompute: Literal["none", "selective", "full"] = "none"
    offload_optimizer: bool = False
    layers_per_stage: list[int] | None = None
    """Uneven pipeline: layers on each stage; even where absent."""


class CheckpointConfig(Section):
    every_tokens: Tokens | None = None
    """Besides each stage's end."""
    keep_last: int = Field(default=2, ge=1)
    keep_every_tokens: Tokens | None = None
    """Checkpoints at these multiples are never removed, nor are stage ends."""
    asynchronous: bool = True


class EvaluateConfig(Section):
    every_tokens: Tokens | None = None
    """Besides each stage's end."""
    heldout_tokens: Tokens = 2**20
    """At most so many tokens of each source."""


class FaultsConfig(Section):
    """What training does when something goes wrong. A step whose loss or gradient isn't finite is always skipped."""

    nonfinite_limit: int = Field(default=3, ge=0)
    """Consecutive skipped steps beyond which on_nonfinite holds."""
    on_nonfinite: Literal["stop", "rollback"] = "stop"
    """stop: end with a diagnosis; rollback: return to the newest checkpoint and leave out the samples drawn since."""
    spike_z: float | None = Field(default=None, gt=0)
    """Robust z-score of the loss that counts as a spike; none: not watched."""
    on_spike: Literal["record", "stop", "rollback"] = "record"
    max_rollbacks: int = Field(default=3, ge=1)
    """In one attempt; one more stops."""
    stall_timeout: Seconds = 1800.0
    """A rank without a heartbeat for so long is named with its stack and the attempt ends."""
    digest_every_steps: int | None = Field(default=None, ge=1)
    """Steps between two comparisons of the weights across data-parallel replicas; none: not compared."""


class BackendsConfig(Section):
    """Ways to carry out an operation, by name; where absent the best that works here (`windtunnel doctor` has the table)."""

    attention: str | None = None
    norm: str | None = None
    adam: str | None = None
    cross_entropy: str | None = None


class LoggingConfig(Section):
    tensorboard: bool = True
    wandb: str | None = None
    """Project of Weights & Biases that gets the curves too; none: left out (needs `pip install wandb`)."""
    histograms_every_steps: int | None = Field(default=None, ge=1)
    """Steps between two histograms of the first rank's weights, by role; none: left out."""
    every_steps: int = Field(default=1, ge=1)
    """Steps between two lines of the plain log; metrics.jsonl has every step."""


class RunConfig(Section):
    """One recipe file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: ModelConfig
    mup: MupConfig = MupConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    sources: dict[str, SourceConfig] = Field(default_factory=dict)
    stages: list[StageConfig] = Field(default_factory=list)
    optim: OptimConfig
    batch: BatchConfig
    parallel: ParallelConfig = ParallelConfig()
    precision: Literal["fp32", "bf16"] = "bf16"
    seed: int = Field(default=1, ge=0)
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    faults: FaultsConfig = FaultsConfig()
    backends: BackendsConfig = BackendsConfig()
    logging: LoggingConfig = LoggingConfig()

    @property
    def duration_tokens(self) -> int:
        """Tokens of the training as the rule for batch and duration counts them."""
        return self.mup.duration_tokens or sum(stage.tokens for stage in self.stages)

    @property
    def block_tokens(self) -> int:
        """The longest sequence: the unit in which text is drawn (recipe/stream.py)."""
        return max(self.model.seq_length_tokens, *(stage.seq_length_tokens or 0 for stage in self.stages), 0)

    @property
    def longest_model(self) -> ModelConfig:
        """The model at the longest sequence of any stage, where memory must hold."""
        return self.model.model_copy(update={"seq_length_tokens": self.block_tokens})

    def model_at(self, stage: str) -> ModelConfig:
        """The model as a stage trains it; as it is written for a name that is no stage's (an imported checkpoint)."""
        found = next((one for one in self.stages if one.name == stage), None)
        own = {} if found is None else found.model_dump(include={"seq_length_tokens", "rope_base"})
        return self.model.model_copy(update={key: value for key, value in own.items() if value is not None})

    def length_note(self, stage: str) -> str:
        """What of the model a stage changes, in words; nothing where it changes nothing."""
        model = self.model_at(stage)
        return "" if model == self.model else f"sequences of {model.seq_length_tokens} tokens, rotary base {model.rope_base:g}"

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        for key, length in [
            ("model", self.model.seq_length_tokens), *((f"stages.{one.name}", one.seq_length_tokens) for one in self.stages)
        ]:
            if length and self.block_tokens % length:
                raise ValueError(
                    f"{key}.seq_length_tokens={length} does not divide the longest sequence, {self.block_tokens}: a shorter "
                    "sequence is a part of what a longer one would read"
                )
        return self

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stages: a name is used twice in {names}")
        if self.stages and (self.stages[0].lr.shape == "hold" or self.stages[0].lr.rewarm_tokens):
            raise ValueError(f"stages.{names[0]}.lr: hold and rewarm_tokens go on from a stage before; it is the first")
        for stage in self.stages:
            for source in stage.mixture:
                if source not in self.sources:
                    raise ValueError(f"stages.{stage.name}.mixture.{source}: no such source;{_near(source, self.sources)}")
        for source in self.tokenizer.train_on:
            if source not in self.sources:
                raise ValueError(f"tokenizer.train_on.{source}: no such source;{_near(source, self.sources)}")
        if self.tokenizer.vocab_size not in (None, self.model.vocab_size):
            raise ValueError(
                f"tokenizer.vocab_size={self.tokenizer.vocab_size} differs from model.vocab_size={self.model.vocab_size}"
            )
        return self


def _near(name: str, known: dict) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1)
    return f" did you mean {close[0]}?" if close else f" known: {', '.join(known) or 'none'}"
