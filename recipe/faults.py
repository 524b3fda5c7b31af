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
    """Counts what was skipped; raises `TrainingFault` beyond the limits."""

    def __init__(self, config: FaultsConfig) -> None:
        self.config = config
        self.num_skipped = 0
        self._in_a_row = 0
        self._losses: deque[float] = deque(maxlen=_WINDOW)

    def judge(self, result: StepResult, *, step: int) -> list[dict[str, Any]]:
        """Events to record for this step."""
        if not result.applied:
            return [self._skipped(result, step=step)]
        self._in_a_row = 0
        z = self._z(result.loss)
        if z is not None and self.config.spike_z is not None and z > self.config.spike_z:
            if self.config.on_spike == "stop":
                raise TrainingFault(
                    f"step {step}: loss {result.loss:.4f} is {z:.1f} robust deviations above the last {_WINDOW} steps"
                )
            return [{"event": "spike", "loss": result.loss, "z": z}]
        self._losses.append(result.loss)
        return []

    def _skipped(self, result: StepResult, *, step: int) -> dict[str, Any]:
        self.num_skipped += 1
        self._in_a_row += 1
        where = ", ".join(result.nonfinite[:8]) or "the loss only"
        if self._in_a_row > self.config.nonfinite_limit:
            raise TrainingFault(
                f"step {step}: {self._in_a_row} steps in a row were not finite (loss {result.loss}); gradients of {where}"
            )
        return {"event": "skip", "loss": str(result.loss), "where": list(result.nonfinite[:8])}

    def _z(self, loss: float) -> float | None:
        if len(self._losses) < _WINDOW // 2:
            return None
        middle = median(self._losses)
        spread = _SIGMA_OF_MAD * median(abs(one - middle) for one in self._losses)
        return (loss - middle) / max(spread, 1e-6)
