"""Judges each step: values that aren't finite, loss spikes. Every rank sees the same result, so all judge alike."""

from collections import deque
from statistics import median
from typing import Any

from recipe.config import FaultsConfig
from recipe.engine import StepResult
from recipe.errors import TrainingFault

_WINDOW = 64  # steps that a spike is judged against
_SIGMA_OF_MAD = 1.4826  # standard deviation over median absolute deviation, of a normal distribution


class Faults:
    """Counts what was skipped and taken back; raises `TrainingFault` beyond the limits."""

    def __init__(self, config: FaultsConfig) -> None:
        self.config = config
        self.num_skipped = 0
        self.num_rollbacks = 0
        self._in_a_row = 0
        self._losses: deque[float] = deque(maxlen=_WINDOW)

    def judge(self, result: StepResult, *, step: int) -> list[dict[str, Any]]:
        """Events to record for this step; after a `rollback` the run must return to its newest checkpoint."""
        if not result.applied:
            return self._skipped(result, step=step)
        self._in_a_row = 0
        z = self._z(result.loss)
        if z is None or self.config.spike_z is None or z <= self.config.spike_z:
            self._losses.append(result.loss)
            return []
        spike: dict[str, Any] = {"event": "spike", "loss": result.loss, "z": z}
        if self.config.on_spike == "record":
            return [spike]
        what = f"step {step}: loss {result.loss:.4f} is {z:.1f} robust deviations above the last {_WINDOW} steps"
        return [spike, self._limit(self.config.on_spike, what)]

    def _skipped(self, result: StepResult, *, step: int) -> list[dict[str, Any]]:
        self.num_skipped += 1
        self._in_a_row += 1
        skip = {"event": "skip", "loss": str(result.loss), "where": list(result.nonfinite[:8])}
        if self._in_a_row <= self.config.nonfinite_limit:
            return [skip]
        where = ", ".join(result.nonfinite[:8]) or "the loss only"
        what = f"step {step}: {self._in_a_row} steps in a row were not finite (loss {result.loss}); gradients of {where}"
        return [skip, self._limit(self.config.on_nonfinite, what)]

    def _limit(self, choice: str, what: str) -> dict[str, Any]:
        if choice == "stop":
            raise TrainingFault(what)
        if self.num_rollbacks == self.config.max_rollbacks:
            raise TrainingFault(f"{what}; {self.num_rollbacks} rollbacks before it")
        self.num_rollbacks += 1
        self._in_a_row = 0
        return {"event": "rollback", "why": what}

    def _z(self, loss: float) -> float | None:
        if len(self._losses) < _WINDOW // 2:
            return None
        middle = median(self._losses)
        spread = _SIGMA_OF_MAD * median(abs(one - middle) for one in self._losses)
        return (loss - middle) / max(spread, 1e-6)
