"""When a trial has said enough, and what an ended one died of. Pure.

said = judge([9.0, 2.1, 2.0, 2.2], rule=Rule(warmup_steps=1, num_steps=3), best_s=None)     # Verdict.MEASURED
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

KILLED = 137  # SIGKILL by the kernel: its out-of-memory killer, where nobody here sent it
OUT_OF_MEMORY = (
    "OutOfMemoryError", "CUDA out of memory", "HIP out of memory", "can't allocate memory", "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED", "Cannot allocate memory", "MemoryError",
)  # fmt: skip


class Verdict(StrEnum):
    GOING = "going"
    MEASURED = "measured"
    DOMINATED = "dominated"
    OUT_OF_MEMORY = "out of memory"
    FAILED = "failed"
    REFUSED = "refused by the engine"
    SKIPPED = "skipped"
    OUT_OF_TIME = "out of time"


@dataclass(frozen=True)
class Rule:
    """How long a trial runs."""

    warmup_steps: int = 2
    """Discarded: first kernels, allocator, caches."""
    num_steps: int = 4
    """Measured, unless dominated before."""
    min_steps: int = 2
    """Fewest measured ones that anything is concluded from."""
    margin_frac: float = 0.10
    """A trial is dominated when its fastest step is so much slower than the best's median."""


def measured_s(steps_s: Sequence[float], *, rule: Rule) -> float | None:
    """Median seconds of the steps after the warm-up; None where they are too few."""
    kept = steps_s[rule.warmup_steps : rule.warmup_steps + rule.num_steps]
    return median(kept) if len(kept) >= min(rule.min_steps, rule.num_steps) else None


def judge(steps_s: Sequence[float], *, rule: Rule, best_s: float | None) -> Verdict:
    """Whether to go on.

    Args:
        steps_s: Seconds of each step so far, warm-up included.
        rule: How long.
        best_s: The best median so far, of another trial.
    """
    kept = steps_s[rule.warmup_steps :]
    if len(kept) >= rule.num_steps:
        return Verdict.MEASURED
    if best_s is not None and len(kept) >= rule.min_steps and min(kept) > best_s * (1 + rule.margin_frac):
        return Verdict.DOMINATED
    return Verdict.GOING


def died_of(exit_code: int | None, logs: Sequence[str]) -> tuple[Verdict, str]:
    """Out of memory or another failure, and the line that says so.

    Args:
        exit_code: Of a trial that nobody here ended.
        logs: Texts of the ranks' logs.
    """
    lines = [line.strip() for text in logs for line in text.splitlines()]
    for line in lines:
        if any(mark in line for mark in OUT_OF_MEMORY):
            return Verdict.OUT_OF_MEMORY, line[:200]
    if exit_code == KILLED:
        return Verdict.OUT_OF_MEMORY, "killed by the system (SIGKILL), most likely for its memory"
    errors = [line for line in lines if "Error" in line and not line.startswith("File ")]
    return Verdict.FAILED, (errors or [f"exit code {exit_code}"])[-1][:200]
