"""The numbers that matter of one run, as text for tiles and tables."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from recipe.config import RunConfig
from recipe.report.collect import RunView
from recipe.resolve import budget_of
from recipe.units import format_count, format_seconds


@dataclass(frozen=True)
class Fact:
    """One number with its name; `unit` is set smaller beside it."""

    name: str
    value: str
    unit: str = ""


def tiles(view: RunView) -> list[Fact]:
    """What a reader wants first."""
    facts = [Fact("parameters", format_count(view.resolved.num_parameters)), Fact("tokens", _tokens(view))]
    if view.heldout:
        name, row = _main_source(view)
        facts.append(Fact(f"held-out, {name}", f"{row['bits_per_byte']:.3f}", "bits/byte"))
        facts.append(Fact(f"loss, {name}", f"{row['loss_nats']:.3f}", "nats"))
    elif view.metrics:
        facts.append(Fact("last loss", f"{view.metrics[-1]['loss']:.3f}", "nats"))
    if speed := _median(view, "tokens_per_s"):
        facts.append(Fact("speed", format_count(speed), "tokens/s"))
    if mfu := _median(view, "mfu_frac"):
        facts.append(Fact("MFU", f"{100 * mfu:.1f}", "%"))
    if seconds := training_seconds(view):
        facts.append(Fact("training time", format_seconds(seconds)))
    return facts


def facts(view: RunView) -> list[Fact]:
    """What ran, in the order in which one asks."""
    resolved, config = view.resolved, view.resolved.config
    model, size = config.model_at(config.stages[-1].name), resolved
    rows = [
        Fact("model", f"{model.num_layers} layers × {model.hidden_size}, FFN {model.ffn_hidden_size}, {model.num_heads} heads, "
             f"{model.num_kv_heads} KV heads, context {model.seq_length_tokens}"),
        Fact("parameters", f"{size.num_non_embedding_parameters:,} + "
             f"{size.num_parameters - size.num_non_embedding_parameters:,} embedding ({'tied' if model.tied else 'untied'})"),
        Fact("tokens", f"{_tokens(view)} of {format_count(resolved.total_tokens)} planned, in {len(resolved.stages)} stages"),
        Fact("steps", f"{len(view.metrics):,} of {resolved.num_steps:,}"),
        Fact("layout", f"{resolved.layout} on {_plural(resolved.layout.world_size, 'process', 'processes')}"),
        Fact("precision", config.precision),
        Fact("scaling", f"{config.mup.parametrization}, base width {config.mup.dim_model_base}"),
        Fact("peak learning rate", _peak_lr(config)),
        Fact("tokenizer", f"{config.tokenizer.kind}, {model.vocab_size:,} pieces, {(resolved.tokenizer_sha256 or '–')[:12]}"),
        Fact("seed", str(config.seed)),
        Fact("attempts", _attempts(view)),
        Fact("muP audit", audit(view)),
    ]
    if resolved.branch:
        rows.insert(2, Fact("branch of", f"{resolved.branch.parent} at {format_count(resolved.branch.at_tokens)} tokens"))
    return rows


def _peak_lr(config: RunConfig) -> str:
    budget = budget_of(config)
    carried = f"; × {budget.lr_mult:.3g} in every role, by batch and duration" if budget.step_mult != 1 else ""
    return f"{config.optim.peak_lr:g} (base){carried}"


def lead(view: RunView) -> str:
    """One sentence that says what the page is about."""
    resolved = view.resolved
    stages = " then ".join(stage.name for stage in resolved.config.stages)
    done = bool(view.metrics) and view.metrics[-1]["tokens"] >= resolved.total_tokens
    state = "" if done else "; it has not reached its end"
    return (
        f"A decoder of {format_count(resolved.num_parameters)} parameters, {resolved.config.model.num_layers} layers deep and "
        f"{resolved.config.model.hidden_size} wide, trained on {_tokens(view)} tokens: {stages}{state}."
    )


COMPARED: tuple[tuple[str, Callable[[RunView], str]], ...] = (
    ("parameters", lambda view: format_count(view.resolved.num_parameters)),
    ("tokens", lambda view: _tokens(view)),
    ("layers × width", lambda view: f"{view.resolved.config.model.num_layers} × {view.resolved.config.model.hidden_size}"),
    ("scaling", lambda view: view.resolved.config.mup.parametrization),
    ("peak learning rate", lambda view: f"{view.resolved.config.optim.peak_lr:g}"),
    ("global batch", lambda view: format_count(view.resolved.config.batch.global_tokens)),
    ("layout", lambda view: str(view.resolved.layout)),
    ("last loss", lambda view: f"{view.metrics[-1]['loss']:.4f}" if view.metrics else "–"),
    ("median tokens/s", lambda view: format_count(_median(view, "tokens_per_s") or 0)),
    ("training time", lambda view: format_seconds(training_seconds(view))),
    ("attempts", lambda view: _attempts(view)),
    ("muP audit", lambda view: audit(view)),
)


def audit(view: RunView) -> str:
    """How often the live model was held against the muP table; a difference would have stopped the attempt."""
    if not view.audited:
        return "none has passed yet"
    times = {1: "once", 2: "twice"}.get(len(view.audited), f"{len(view.audited)} times")
    after = f"after the first step of {'attempt' if len(view.audited) == 1 else 'attempts'} {_listed(view.audited)}"
    missing = [attempt for attempt in view.begun if attempt not in view.audited]
    return f"ran and passed {times}, {after}" + (f"; not reached in {_listed(missing)}" if missing else "")


def training_seconds(view: RunView) -> float:
    """Seconds spent in optimizer steps that count."""
    return sum(row.get("step_s") or 0.0 for row in view.metrics)


def _tokens(view: RunView) -> str:
    return format_count(view.metrics[-1]["tokens"] if view.metrics else 0)


def _main_source(view: RunView) -> tuple[str, dict[str, Any]]:
    """The source with the largest share of the first stage among those evaluated."""
    sources = view.heldout[-1]["sources"]
    weights = view.resolved.config.stages[0].mixture
    name = max(sources, key=lambda source: weights.get(source, 0.0))
    return name, sources[name]


def _median(view: RunView, key: str) -> float | None:
    values = [row[key] for row in view.metrics if row.get(key) is not None]
    return median(values) if values else None


def _attempts(view: RunView) -> str:
    return str(len({row.get("attempt") for row in view.metrics}) or "–")


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
