"""What is searched: recipe keys with their ranges. Samplers and surrogate see the unit cube, in which scales are even."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launch.search.errors import SearchError

SHORT = {
    "peak_lr": "optim.peak_lr", "weight_decay": "optim.weight_decay", "scale_emb": "mup.scale_emb",
    "scale_depth": "mup.scale_depth", "dim_model_base": "mup.dim_model_base", "init_std": "mup.init_std",
    "global_tokens": "batch.global_tokens",
}
TABLE_5 = (  # Xmodel-2 report, Table 5; the learning rate on a log scale instead of its steps of 0.001
    "scale_emb=2:20:step=1", "dim_model_base=32,64,128,256,512,1024", "scale_depth=1:5:step=0.1", "peak_lr=0.001:0.1:log",
)  # fmt: skip
_DIGITS = 4

Value = float | int
Point = dict[str, Value]


@dataclass(frozen=True)
class Dimension:
    """One recipe key and the values it may take: a range, or a list in order."""

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def num_values(self) -> int | None:
        """How many there are, where they can be counted."""
        if self.choices:
            return len(self.choices)
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def at(self, unit: float) -> Value:
        """The value at this place of [0, 1]."""
        unit = min(max(unit, 0.0), 1.0)
        if self.choices:
            return self.choices[min(int(unit * len(self.choices)), len(self.choices) - 1)]
        if self.log:
            return _tidy(math.exp(math.log(self.low) + unit * math.log(self.high / self.low)))
        value = self.low + unit * (self.high - self.low)
        if self.step is not None:
            value = self.low + round((value - self.low) / self.step) * self.step
        return _tidy(value)

    def unit(self, value: Value) -> float:
        """Its inverse; a value outside of the range lies outside of [0, 1]."""
        if self.choices:
            nearest = min(range(len(self.choices)), key=lambda index: abs(math.log(self.choices[index] / value)))
            return (nearest + 0.5) / len(self.choices)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def _tidy(value: float) -> Value:
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded == int(rounded) else rounded


def parse_dimension(text: str) -> Dimension:
    """`key=low:high[:log][:step=0.1]` or `key=a,b,c`; raises `SearchError`."""
    key, equals, values = text.partition("=")
    key = SHORT.get(key.strip(), key.strip())
    form = "write key=low:high, key=low:high:log, key=low:high:step=0.1 or key=a,b,c"
    if not equals or not key:
        raise SearchError(f"--search {text!r}: {form}")
    try:
        if ":" not in values:
            choices = tuple(sorted(_tidy(float(value)) for value in values.split(",")))
            if len(set(choices)) < 2 or choices[0] <= 0:
                raise SearchError(f"--search {text!r}: name at least two different values above 0")
            return Dimension(key, choices=choices)
        low, high, *how = values.split(":")
        step = next((float(one.removeprefix("step=")) for one in how if one.startswith("step=")), None)
        if unknown := [one for one in how if one != "log" and not one.startswith("step=")]:
            raise SearchError(f"--search {text!r}: {unknown[0]!r} is neither log nor step=…; {form}")
        found = Dimension(key, float(low), float(high), log="log" in how, step=step)
    except ValueError as error:
        raise SearchError(f"--search {text!r}: {error}; {form}") from error
    bad_step = found.step is not None and (found.step <= 0 or found.log)
    if not found.low < found.high or (found.log and found.low <= 0) or bad_step:
        raise SearchError(f"--search {text!r}: low must be below high, and above 0 on a log scale, which takes no step")
    return found


def overrides_of(point: Point) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in point.items())


def point_at(dimensions: Sequence[Dimension], units: Sequence[float]) -> Point:
    return {dimension.key: dimension.at(unit) for dimension, unit in zip(dimensions, units, strict=True)}


def units_of(dimensions: Sequence[Dimension], point: Point) -> list[float]:
    return [dimension.unit(point[dimension.key]) for dimension in dimensions]
