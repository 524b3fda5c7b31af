"""What an ended attempt means for the run: done, start again, or stop with a diagnosis. Pure.

| exit code | meaning | next |
|---|---|---|
| 0 | the run is finished | done |
| 75 (EX_TEMPFAIL) | it was told to leave and has a checkpoint | start again |
| 2 | bad input | stop: the same input fails again |
| other, or none | it failed or was lost | start again |

"Start again" ends after three attempts in a row that began from the same checkpoint and came to no later one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from recipe.exits import BAD_INPUT, FINISHED, REQUEUE

MAX_ATTEMPTS_WITHOUT_PROGRESS = 3


class Action(StrEnum):
    DONE = "done"
    AGAIN = "again"
    STOP = "stop"


@dataclass(frozen=True)
class Decision:
    action: Action
    reason: str


def decide(
    exit_code: int | None, *, reason: str, starts_tokens: Sequence[int], tokens: int,
    max_attempts: int = MAX_ATTEMPTS_WITHOUT_PROGRESS,
) -> Decision:
    """What follows.

    Args:
        exit_code: Of the attempt that just ended; None when nobody saw it end.
        reason: In its exit record.
        starts_tokens: Tokens of the checkpoint that each attempt began from, this one last.
        tokens: Tokens of the newest checkpoint now.
        max_attempts: How many attempts in a row may begin and end at the same checkpoint.
    """
    if exit_code == FINISHED:
        return Decision(Action.DONE, "finished")
    if exit_code == BAD_INPUT:
        return Decision(Action.STOP, f"bad input: {reason}")
    stuck = 0
    for start in reversed(starts_tokens):
        if start != tokens:
            break
        stuck += 1
    if stuck >= max_attempts:
        again = "1 attempt" if stuck == 1 else f"{stuck} attempts"
        return Decision(Action.STOP, f"{again} without getting past the checkpoint at {tokens} tokens; the last one: {reason}")
    return Decision(Action.AGAIN, reason)


def normal_exit_code(code: int) -> int:
    """One meaning for the ways in which launchers tell of a signal: −9 (subprocess), 247 (DeepSpeed), 137 (srun) → 137."""
    if code < 0:
        return 128 - code
    return 128 + (256 - code) if 192 < code < 256 else code


def describe_exit(code: int | None) -> str:
    """What to say of an attempt that left no exit record."""
    import signal

    if code is None:
        return "lost"
    if 128 < code <= 192:
        try:
            return f"killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    known = {FINISHED: "finished", BAD_INPUT: "bad input", REQUEUE: "told to leave"}
    return known.get(code, f"failed with exit code {code}")
