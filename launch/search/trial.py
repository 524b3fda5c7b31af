"""What a study asks of a worker, and what comes back. Plain data: each is one JSON file of the study's folder."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from launch.search.errors import SearchError
from recipe.config import Section

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
    """Held-out source → its weight in the objective; all alike where empty."""

    def checkpoint(self, stage: str, tokens: int) -> str:
        """Where it saves, below the study's folder."""
        return f"work/checkpoints/{self.number:05d}/{stage}-{tokens:015d}"


class Result(Section):
    """What became of a trial."""

    trial: Trial
    status: Status
    losses: dict[str, float] = Field(default_factory=dict)
    """Held-out source → nats per token, after the last step."""
    objective: float | None = None
    """Weighted mean of the losses; the uniform guess where the trial diverged."""
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


def must_have_worked(result: Result) -> None:
    """Raises `SearchError` for a stable run that failed: nothing can branch from it."""
    if result.status != "done":
        raise SearchError(
            f"trial {result.trial.number}, the stable run, {result.status}: {result.detail}; start another study with a "
            "mended recipe, or remove its file below work/results to run it again"
        )


def objective_of(losses: dict[str, float], weights: dict[str, float]) -> float:
    """Weighted mean of the losses by source."""
    used = weights or dict.fromkeys(losses, 1.0)
    return sum(weight * losses[source] for source, weight in used.items()) / sum(used.values())
