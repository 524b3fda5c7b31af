"""What a study asks of a worker, and what comes back. Plain data: each is one JSON file of the study's folder."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from launch.search.errors import SearchError
from recipe.config import RunConfig, Section, StageConfig

Status = Literal["done", "diverged", "pruned", "failed"]


class Trial(Section):
    """One training of the study's recipe, with changes."""

    number: int
    label: str
    """What the study wants it for, such as "explore" or "confirm"."""
    overrides: tuple[str, ...] = ()
    """`key.path=value`, as on the command line."""
    point: dict[str, Any] = Field(default_factory=dict)
    """The searched values, for whoever reads the results; the overrides are what counts."""
    start: str | None = None
    """Checkpoint below the study's folder that it goes on from."""
    save_tokens: tuple[int, ...] = ()
    """Write a checkpoint after the steps that end at so many tokens."""
    pools: dict[str, int] = Field(default_factory=dict)
    """Source → tokens of it that the trial may read; it repeats them where it needs more."""
    rung_frac: float | None = None
    """First train a complete run of this share of the tokens (warmup, stable and decay scaled alike) …"""
    rung_above: float | None = None
    """… and stop there when its objective is above this (None: whatever it is, go on with the full run)."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Held-out source or metric of a task (scores.py) → its weight in the objective; all sources alike where empty."""
    max_questions: int | None = None
    """The first questions of each task; all where absent."""

    def checkpoint(self, stage: str, tokens: int) -> str:
        """Where it saves, below the study's folder."""
        return f"work/checkpoints/{self.number:05d}/{stage}-{tokens:015d}"


class Result(Section):
    """What became of a trial."""

    trial: Trial
    status: Status
    losses: dict[str, float] = Field(default_factory=dict)
    """Held-out source → nats per token, metric of a task → value; after the last step, and the less the better."""
    objective: float | None = None
    """Weighted mean of the losses; that of the uniform guess where the trial diverged."""
    rung: float | None = None
    """The objective of the short run, where there was one."""
    tokens: int = 0
    start_s: float = 0.0
    """From taking the trial to its first step."""
    seconds: float = 0.0
    detail: str = ""

    @property
    def loss(self) -> float:
        """The objective of a trial that has one."""
        assert self.objective is not None
        return self.objective


class Numbering:
    """Makes a study's trials, numbered in the order in which it asks for them: the same whenever it is called again."""

    def __init__(self) -> None:
        self._next = 0

    def trial(self, label: str, overrides: Sequence[str], **facts: object) -> Trial:
        """`facts`: the other fields of the trial."""
        trial = Trial.model_validate({"number": self._next, "label": label, "overrides": tuple(overrides), **facts})
        self._next += 1
        return trial


def check_trunk(config: RunConfig, stages: Sequence[StageConfig]) -> None:
    """Raises `SearchError` where a stable run of these stages alone would draw its text otherwise than the whole recipe."""
    longest = config.model_copy(update={"stages": list(stages)}).block_tokens
    if stages and longest != config.block_tokens:
        raise SearchError(
            f"stages: the longest sequence, {config.block_tokens} tokens, comes only after the stable run, of {longest}; leave "
            "the longer ones out of the study (-o stages.NAME.seq_length_tokens=null)"
        )


def same_duration(config: RunConfig) -> list[str]:
    """Overrides by which trials of other stages keep the values that follow from the recipe's own duration."""
    return [f"mup.duration_tokens={config.duration_tokens}"] if config.mup.duration_tokens_base else []


def must_have_worked(result: Result) -> None:
    """Raises `SearchError` for a stable run that failed: nothing can branch from it."""
    if result.status != "done":
        raise SearchError(
            f"trial {result.trial.number}, the stable run, {result.status}: {result.detail}; start another study with a "
            "mended recipe, or remove its file below work/results to run it again"
        )


def objective_of(losses: dict[str, float], weights: dict[str, float]) -> float:
    """Weighted mean of the losses."""
    used = weights or dict.fromkeys(losses, 1.0)
    return sum(weight * losses[source] for source, weight in used.items()) / sum(used.values())
