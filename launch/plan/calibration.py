"""The few numbers that measurements decide, apart from everything that is derived.

`DEFAULT` is what `make bench-plan` fits on the published runs (launch/plan/fit.py); `windtunnel tune` saves one for the machine
it ran on. A calibration is small on purpose: one factor a device generation, one an engine's habits, none per model.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from data_prep.atomic import write_json
from launch.plan.errors import PlanError


@dataclass(frozen=True)
class Calibration:
    """Ratios to what the closed forms say, and a few latencies.

    hot_frac: clocks and power of a device in a training loop against isolated kernels, by hardware name (default: `*`).
    """

    hot_frac: dict[str, float] = field(default_factory=lambda: {"*": 0.85})
    eager_scale: float = 1.4
    """Traffic between matrix products where they are not fused."""
    launch_scale: float = 1.0
    """One kernel's launch, against the hardware file's."""
    step_overhead_s: float = 0.02
    """Per step: data, logging, norms' synchronisation."""
    jitter_frac: float = 0.006
    """Slowdown for every doubling of nodes (weak scaling costs 1 to 5 % to thousands of GPUs)."""
    tp_exposed_frac: float = 1.0
    """Scale of the tensor-parallel traffic that stays visible."""
    dp_exposed_frac: float = 1.0
    """Scale of the data-parallel traffic that stays visible."""
    memory_scale: float = 1.0
    """Measured over predicted allocated bytes."""
    source: str = "priors"

    def hot(self, hardware: str) -> float:
        return self.hot_frac.get(hardware, self.hot_frac.get("*", 0.85))

    def changed(self, **changes) -> Self:
        return replace(self, **changes)

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """
        Raises:
            PlanError: not a calibration written by `windtunnel tune`.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise PlanError(f"{path}: not a calibration saved by windtunnel tune: {error}") from error


PRIORS = Calibration()
