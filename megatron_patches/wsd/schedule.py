"""Warmup, stable, decay: the learning rate as a pure function of tokens.

    Schedule.of_stages([Stage(90_000), Stage(10_000, Decay("half_life", half_life_tokens=5_000))], warmup_tokens=1_000)

Tokens are the clock, so a batch-size ramp changes nothing here. Every multiplier is relative to the peak lr. The
value at a boundary belongs to the segment that ends there (as in Megatron's scheduler), so a step that consumes
tokens (a, b] takes `lr_mult_at(b)`: a first warmup step is not wasted on lr 0, and the last decay step reaches the
decay's end.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import cos, pi, sqrt
from typing import Any

from megatron_patches.errors import PatchError

# Decays over r = tokens since the start ÷ length, from 1 at r = 0 to 0 at r = 1.
# `exponential` is Megatron-Core's own curve; the report's half-life is another and has no end of its own.
_SHAPES = {
    "linear": lambda r: 1 - r,
    "cosine": lambda r: 0.5 * (cos(pi * r) + 1),
    "exponential": lambda r: 2 * 0.5**r - 1,
    "one_minus_sqrt": lambda r: 1 - sqrt(r),
}
SHAPES = (*_SHAPES, "half_life")


@dataclass(frozen=True)
class Decay:
    """How the lr falls during a stage.

    Attributes:
        shape: One of `SHAPES`. `half_life` is 0.5^((s − S)/T) (Xmodel-2 report), with T = `half_life_tokens`.
        floor_frac: Lowest multiplier. The four finite shapes end on it; `half_life` is cut off at it.
    """

    shape: str
    half_life_tokens: int | None = None
    floor_frac: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise PatchError(f"lr.shape={self.shape!r} is unknown; one of: {', '.join(SHAPES)}")
        if (self.shape == "half_life") != (self.half_life_tokens is not None):
            raise PatchError(
                f"lr.half_life_tokens={self.half_life_tokens} with lr.shape={self.shape!r}: half_life needs it, others not"
            )
        if self.half_life_tokens is not None and self.half_life_tokens <= 0:
            raise PatchError(f"lr.half_life_tokens={self.half_life_tokens} must be greater than 0")
        if not 0 <= self.floor_frac < 1:
            raise PatchError(f"lr.floor_frac={self.floor_frac} must lie in [0, 1)")

    def mult(self, since_tokens: int, stage_tokens: int) -> float:
        """Multiplier `since_tokens` after the decay began, in a stage of `stage_tokens`."""
        if self.shape == "half_life":
            assert self.half_life_tokens is not None
            return max(self.floor_frac, 0.5 ** (since_tokens / self.half_life_tokens))
        r = min(1.0, since_tokens / stage_tokens)
        return self.floor_frac + (1 - self.floor_frac) * _SHAPES[self.shape](r)


@dataclass(frozen=True)
class Stage:
    """A stretch of the run: constant at the peak, or with a decay, or a constant tail.

    Attributes:
        tokens: Length.
        decay: None stays at the peak.
        rewarm_tokens: Linear way from the previous stage's last multiplier back to this one's (WSD-S, arXiv
            2410.05192, jumps back: 0).
        hold: Stays at the previous stage's last multiplier instead: the tail after a decay.
    """

    tokens: int
    decay: Decay | None = None
    rewarm_tokens: int = 0
    hold: bool = False

    def __post_init__(self) -> None:
        if self.tokens <= 0:
            raise PatchError(f"stage.tokens={self.tokens} must be greater than 0")
        if not 0 <= self.rewarm_tokens <= self.tokens:
            raise PatchError(f"stage.rewarm_tokens={self.rewarm_tokens} must lie within the stage's {self.tokens} tokens")
        if self.hold and (self.decay is not None or self.rewarm_tokens):
            raise PatchError("lr.shape='hold' stays where the stage before it ended: it takes no decay and no rewarm_tokens")


@dataclass(frozen=True)
class Schedule:
    """A whole run's learning rate; build it with `of_stages`.

    Attributes:
        warmup_tokens: Linear from 0; it overlaps the first stage and never adds to it.
    """

    stages: tuple[Stage, ...]
    warmup_tokens: int = 0
    starts: tuple[int, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.stages:
            raise PatchError("a schedule needs at least one stage")
        if self.stages[0].hold or self.stages[0].rewarm_tokens:
            raise PatchError("stages[0]: nothing precedes the first stage that it could hold or rewarm from; it has the warmup")
        if not 0 <= self.warmup_tokens <= self.stages[0].tokens:
            raise PatchError(
                f"optim.warmup_tokens={self.warmup_tokens} must lie within the first stage's {self.stages[0].tokens} tokens"
            )
        ends = [0]
        for stage in self.stages:
            ends.append(ends[-1] + stage.tokens)
        object.__setattr__(self, "starts", tuple(ends[:-1]))

    @classmethod
    def of_stages(cls, stages: Sequence[Stage], *, warmup_tokens: int = 0) -> "Schedule":
        """Builds a schedule of consecutive stages."""
        return cls(tuple(stages), warmup_tokens)

    @property
    def total_tokens(self) -> int:
        """Length of all stages."""
        return self.starts[-1] + self.stages[-1].tokens

    def stage_at(self, tokens: int) -> int:
        """Index of the stage that token count `tokens` belongs to; a boundary belongs to the stage that ends there."""
        if tokens < 0:
            raise PatchError(f"tokens={tokens} must not be negative")
        return max(index for index, start in enumerate(self.starts) if start < tokens or index == 0)

    def lr_mult_at(self, tokens: int) -> float:
        """Learning rate ÷ peak learning rate once `tokens` are consumed. After the last stage its end value holds."""
        index = self.stage_at(tokens)
        if index == 0 and tokens < self.warmup_tokens:
            return tokens / self.warmup_tokens * self._at(0, self.warmup_tokens)
        return self._at(index, tokens)

    def _at(self, index: int, tokens: int) -> float:
        stage, since = self.stages[index], tokens - self.starts[index]
        own = self._own(index, min(since, stage.tokens))
        if index == 0 or since >= stage.rewarm_tokens:
            return own
        before = self.lr_mult_at(self.starts[index])
        return before + (self._own(index, stage.rewarm_tokens) - before) * since / stage.rewarm_tokens

    def _own(self, index: int, since: int) -> float:
        """The stage's multiplier without warmup; the first stage's decay starts where the warmup ends."""
        stage = self.stages[index]
        if stage.hold:
            return self.lr_mult_at(self.starts[index])
        skip = self.warmup_tokens if index == 0 else stage.rewarm_tokens
        if stage.decay is None:
            return 1.0
        return stage.decay.mult(max(0, since - skip), max(1, stage.tokens - skip))

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides a multiplier, as plain JSON."""
        return {"warmup_tokens": self.warmup_tokens, "stages": [asdict(stage) for stage in self.stages]}

    def check_same(self, saved: dict[str, Any], *, consumed_tokens: int, branch: bool = False) -> None:
        """Refuses a resume under another schedule.

        Args:
            saved: `state_dict()` of the schedule that the checkpoint was trained with.
            consumed_tokens: Tokens that the checkpoint has seen.
            branch: A branch may change what lies ahead, never what lies behind.

        Raises:
            PatchError: Names each difference, stage by stage.
        """
        mine = self.state_dict()
        if mine == saved:
            return
        differences = [
            f"  {name}: checkpoint {saved.get(name)!r}, now {mine.get(name)!r}"
            for name in ("warmup_tokens",)
            if saved.get(name) != mine[name]
        ]
        old, new = saved.get("stages", []), mine["stages"]
        for index in range(max(len(old), len(new))):
            before, now = (side[index] if index < len(side) else None for side in (old, new))
            begun = index < len(self.starts) and self.starts[index] < consumed_tokens
            if before != now and (not branch or (begun and not _continues(before, now))):
                differences.append(f"  stages[{index}]: checkpoint {before}, now {now}")
        if differences:
            hint = "" if branch else "\nA changed decay is a branch: `windtunnel decay RUN --at TOKENS`."
            raise PatchError(
                f"the lr schedule differs from the checkpoint's at {consumed_tokens} tokens:\n" + "\n".join(differences) + hint
            )


def _continues(before: dict[str, Any] | None, now: dict[str, Any] | None) -> bool:
    """Whether a branch merely cuts a constant stage short (or lengthens it): the lr behind it is then the same."""
    if before is None or now is None or before["decay"] is not None or now["decay"] is not None:
        return False
    return all(before[key] == now[key] for key in ("rewarm_tokens", "hold"))
