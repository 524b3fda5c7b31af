"""What a run records: metrics.jsonl (a line a step), events.jsonl, boards. Written by rank 0 only."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from data_prep.atomic import replacing
from recipe.boards import Board
from recipe.rundir import RunDir, read_jsonl

if TYPE_CHECKING:
    from torch import Tensor


class Recorder:
    """Appends to a run's records; on opening, drops metrics from `first_step` on, which will be written again."""

    def __init__(self, run: RunDir, *, attempt: int, first_step: int, boards: Sequence[Board] = ()) -> None:
        self.run, self.attempt, self._boards = run, attempt, boards
        keep_metrics_before(run.metrics, first_step)
        self._metrics = run.metrics.open("ab")
        self._last_loss: float | None = None

    def step(self, record: dict[str, Any]) -> None:
        self._metrics.write(orjson.dumps(record | {"attempt": self.attempt}, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._metrics.flush()
        self._last_loss = record["loss"]
        for board in self._boards:
            board.scalars(_scalars(record), record["step"])

    def event(self, kind: str, **facts: Any) -> None:
        append_event(self.run, kind, attempt=self.attempt, **facts)

    def scalar(self, name: str, value: float, step: int) -> None:
        for board in self._boards:
            board.scalars([(name, value)], step)

    def histograms(self, values_by_role: "Mapping[str, Tensor]", step: int) -> None:
        """Of the weights of each role, float32 on the CPU."""
        for role, values in values_by_role.items():
            for board in self._boards:
                board.histogram(f"weights/{role}", values, step)

    def sync(self) -> None:
        """To disk: a checkpoint may only claim steps whose metrics are there."""
        self._metrics.flush()
        os.fsync(self._metrics.fileno())

    def close(self) -> None:
        self._metrics.close()
        for board in self._boards:
            board.close(self._last_loss)


def append_event(run: RunDir, kind: str, **facts: Any) -> None:
    """One line in events.jsonl; a single write, so that lines of several processes never mix."""
    line = orjson.dumps({"time": time.time(), "event": kind, **facts}) + b"\n"
    run.events.parent.mkdir(parents=True, exist_ok=True)
    with run.events.open("ab", buffering=0) as file:
        file.write(line)


def keep_metrics_before(path: Path, first_step: int) -> None:
    """Rewrites the metrics so that each step below `first_step` stands once; a torn last line goes too."""
    kept = {record["step"]: record for record in read_jsonl(path) if record["step"] < first_step}
    with replacing(path) as file:
        for step in sorted(kept):
            file.write(orjson.dumps(kept[step]) + b"\n")


def _scalars(record: dict[str, Any]) -> list[tuple[str, float]]:
    names = {
        "loss": "train/loss", "grad_norm": "train/grad_norm", "lr": "train/lr", "tokens": "train/tokens",
        "batch_seqs": "train/batch_seqs", "tokens_per_s": "speed/tokens_per_s", "tflops": "speed/tflops",
        "mfu_frac": "speed/mfu", "memory_bytes": "speed/peak_memory_bytes",
    }
    scalars = [(title, record[key]) for key, title in names.items() if record.get(key) is not None]
    scalars += [(f"lr/{role}", value) for role, value in record["lr_by_role"].items()]
    scalars += [(f"phase/{phase}_s", value) for phase, value in record["phase_s"].items()]
    scalars += [(f"mixture/{source}", value) for source, value in record.get("drawn", {}).items()]
    return scalars
