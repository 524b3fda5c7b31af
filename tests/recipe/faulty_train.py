"""`python -m tests.recipe.faulty_train RUN`: the training program with faults put in where FAULTS says (JSON).

{"nan_calls": [9, 10]}: a gradient of rank 0 becomes NaN in these calls of the step; {"noise_calls": [40]}: labels are random
there, which is a loss spike; {"flip_call": 3}: on rank 1 a bit of a weight flips before that update; {"record": folder}: every
rank writes down which samples it reads; {"stop_step": 6}: SIGTERM once so many steps of the run are done; {"stall_step": 3}:
rank 1 never has that step's batch.
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from recipe.engine import Engine
from recipe.train import main
from recipe.trainer import Trainer

FAULTS = json.loads(os.environ.get("FAULTS", "{}"))
_step, _draw = Engine.train_step, Trainer._draw
_calls = 0


def faulty_step(self: Engine, micro_batches: Any, **options: Any) -> Any:
    global _calls
    _calls += 1
    rank = torch.distributed.get_rank()
    parameter = self.chunks[0].decoder.layers[-1].mlp.linear_fc2.weight
    handle = None
    if _calls in FAULTS.get("nan_calls", ()) and rank == 0:
        handle = parameter.register_hook(lambda gradient: gradient * float("nan"))
    if _calls in FAULTS.get("noise_calls", ()):
        micro_batches = [replace(b, labels=torch.randint_like(b.labels, 400)) for b in micro_batches]
    if _calls == FAULTS.get("flip_call") and rank == 1:
        parameter.data.view(torch.int32)[0, 0] ^= 1 << 12
    result = _step(self, micro_batches, **options)
    if handle is not None:
        handle.remove()
    return result


def recorded_draw(self: Trainer, batch_seqs: int) -> Any:
    path = Path(FAULTS["record"]) / f"rank-{self.rank}.jsonl"
    with path.open("a") as file:

        def read(windows: Any) -> Any:
            file.writelines(f'[{self.step}, "{w.source}", {w.draw}, {w.epoch}, {w.index}, {w.part}]\n' for w in windows)
            return type(self.samples).read(self.samples, windows)

        self.samples.read = read  # type: ignore[method-assign]
        drawn = _draw(self, batch_seqs)
    if self.step + 1 == FAULTS["stop_step"]:
        os.kill(os.getpid(), signal.SIGTERM)
    return drawn


def stalled_draw(self: Trainer, batch_seqs: int) -> Any:
    if self.rank == 1 and self.step == FAULTS["stall_step"]:
        time.sleep(600)
    return _draw(self, batch_seqs)


if __name__ == "__main__":
    Engine.train_step = faulty_step  # type: ignore[method-assign]
    if "record" in FAULTS:
        Trainer._draw = recorded_draw  # type: ignore[method-assign]
    if "stall_step" in FAULTS:
        Trainer._draw = stalled_draw  # type: ignore[method-assign]
    sys.exit(main())
