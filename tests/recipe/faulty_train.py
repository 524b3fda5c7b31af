"""`python -m tests.recipe.faulty_train RUN`: the training program with faults put in where FAULTS says (JSON).

{"nan_calls": [9, 10]}: a gradient of rank 0 becomes NaN in these calls of the step; {"noise_calls": [40]}: labels are random
there, which is a loss spike; {"flip_call": 3}: on rank 1 a bit of a weight flips before that update.
"""

import json
import os
import sys
from dataclasses import replace
from typing import Any

import torch

from recipe.engine import Engine
from recipe.train import main

FAULTS = json.loads(os.environ.get("FAULTS", "{}"))
_step = Engine.train_step
_calls = 0


def faulty_step(self: Engine, micro_batches: Any, **options: Any) -> Any:
    global _calls
    _calls += 1
    rank = torch.distributed.get_rank()
    parameter = self.chunks[0].decoder.layers[1].mlp.linear_fc2.weight
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


if __name__ == "__main__":
    Engine.train_step = faulty_step  # type: ignore[method-assign]
    sys.exit(main())
