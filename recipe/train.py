"""The training program, one rank of it: `python -m recipe.train RUN_DIR`, started by a launcher.

Everything it does was decided before (the run directory holds it); it goes through all stages from the newest whole
checkpoint, and leaves with a code that says what to do next (`recipe/exits.py`).
"""

import argparse
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from data_prep.atomic import write_json
from data_prep.errors import DataError
from megatron_patches.errors import PatchError
from recipe.errors import RecipeError, TrainingFault
from recipe.exits import BAD_INPUT, FAILED, FINISHED, REQUEUE
from recipe.rundir import RunDir


def main(arguments: list[str] | None = None, *, trainer_module: str = "recipe.trainer") -> int:
    """One rank from start to end; returns the exit code. `trainer_module` has the class Trainer that goes through the run."""
    parser = argparse.ArgumentParser(prog="python -m recipe.train", description="One rank of a training run.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, default=int(os.environ.get("WINDTUNNEL_ATTEMPT", "1")))
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)  # the DeepSpeed launcher adds it
    options = parser.parse_args(arguments)
    stop = StopRequest()
    try:
        run = RunDir.existing(options.run_dir)
        return _train(run, attempt=options.attempt, stop=stop, trainer_module=trainer_module)
    except (RecipeError, DataError, PatchError) as error:
        return _leave(options.run_dir, options.attempt, BAD_INPUT, str(error))
    except TrainingFault as error:
        return _leave(options.run_dir, options.attempt, FAILED, str(error))


class StopRequest:
    """SIGTERM and SIGUSR1 ask for a checkpoint and an end; all ranks agree on the step."""

    def __init__(self) -> None:
        self.asked: str | None = None
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: Any) -> None:
        self.asked = signal.Signals(number).name


def _train(run: RunDir, *, attempt: int, stop: StopRequest, trainer_module: str) -> int:
    from recipe import distributed
    from recipe.prepare import load_resolved
    from recipe.watchdog import Watchdog

    resolved = load_resolved(run)
    device = _device()
    distributed.start(device=device, timeout_s=max(resolved.config.faults.stall_timeout, 60.0))
    import torch.distributed as dist

    watchdog = Watchdog(rank=dist.get_rank(), timeout_s=resolved.config.faults.stall_timeout)
    import megatron_patches

    with megatron_patches.apply(cpu=device == "cpu"):
        trainer = import_module(trainer_module).Trainer(run, resolved, attempt=attempt, device=device, watchdog=watchdog)
        try:
            reason = trainer.run(stop)
        finally:
            watchdog.close()
        trainer.close()
    if dist.get_rank() == 0:
        write_exit(run.root, attempt, FINISHED if reason is None else REQUEUE, reason or "finished", trainer.progress())
    dist.barrier()
    dist.destroy_process_group()
    return FINISHED if reason is None else REQUEUE


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _leave(root: Path, attempt: int, code: int, reason: str) -> int:
    """A typed error ends the rank: one message, no traceback; the launcher ends the others.

    Whichever rank is first says so in the attempt's record: srun's exit code may be that of a rank that was ended for it.
    """
    print(reason, file=sys.stderr, flush=True)
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    write_exit(root, attempt, code, reason if rank == "0" else f"rank {rank}: {reason}", {}, replace=False)
    sys.stderr.flush()
    os._exit(code)  # other ranks may wait in a collective that this one never joins


def write_exit(root: Path, attempt: int, code: int, reason: str, progress: dict[str, int], *, replace: bool = True) -> None:
    """`exit.json` of the attempt; without `replace` the first rank to write it has the word."""
    folder = next((path for path in RunDir(root).attempt_dirs() if int(path.name.partition("-")[0]) == attempt), None)
    if folder is not None and (replace or not (folder / "exit.json").exists()):
        facts = {"reason": reason, "exit_code": code, "step": 0, "tokens": 0, **progress, "time": time.time()}
        write_json(folder / "exit.json", facts)


if __name__ == "__main__":
    sys.exit(main())
