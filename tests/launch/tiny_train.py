"""A real torch.distributed program that honours the trainer's contract in a second: for tests of what surrounds training.

State is one number that every rank changes together; a step is an all-reduce. Environment: TINY_STEP_S (seconds a step),
TINY_EVERY (steps between checkpoints), TINY_FAIL_AT (step at which rank 1 raises), TINY_EXIT (exit code at once).
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import orjson
import torch
import torch.distributed as dist

from recipe import distributed
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir, read_json, read_jsonl, write_json, write_text
from recipe.train import write_exit

stop = False


def on_signal(*_: object) -> None:
    global stop
    stop = True


def save(run: RunDir, stage: str, tokens: int, state: dict) -> None:
    write_json(run.checkpoint(stage, tokens) / "manifest.json", state)


def restore(run: RunDir) -> dict:
    found = sorted(run.checkpoints.glob("*/manifest.json"), key=lambda path: int(path.parent.name.rpartition("-")[2]))
    return read_json(found[-1]) if found else {"step": 0, "value": 1.0}


def train(run: RunDir, attempt: int) -> int:
    resolved = ResolvedRun.model_validate(read_json(run.resolved))
    distributed.start(device="cpu", timeout_s=60)
    rank, state, every = dist.get_rank(), restore(run), int(os.environ.get("TINY_EVERY", "5"))
    fail_at = int(os.environ.get("TINY_FAIL_AT", "-1"))
    mine = next(path for path in run.attempt_dirs() if path.name.startswith(f"{attempt:03d}-"))
    if rank == 0:  # steps after the checkpoint are taken again
        kept = [line for line in read_jsonl(run.metrics) if line["step"] < state["step"]]
        write_text(run.metrics, "".join(orjson.dumps(line).decode() + "\n" for line in kept))
    while state["step"] < resolved.num_steps:
        flags = torch.tensor([float(stop), state["value"]])
        dist.all_reduce(flags)
        if state["step"] == fail_at and rank == 1:
            raise RuntimeError("a fault made on purpose")
        step = state["step"] + 1
        state = {"step": step, "value": float(flags[1]) / dist.get_world_size() * 0.99}
        tokens, stage = resolved.tokens_before(step), resolved.stages[resolved.stage_at(step - 1)].name
        leaving = bool(flags[0]) and step < resolved.num_steps
        if rank == 0:
            if run.attempt_dirs()[-1] != mine:
                print("fenced: a later attempt has begun", flush=True)
                os._exit(1)
            line = {"step": step - 1, "stage": stage, "tokens": tokens, "loss": state["value"], "attempt": attempt}
            with open(run.metrics, "ab") as file:
                file.write(orjson.dumps(line) + b"\n")
            if step % every == 0 or leaving or step == resolved.num_steps:
                save(run, stage, tokens, state)
        if leaving:
            return finish(run, attempt, "told to leave", 75, step, tokens)
        time.sleep(float(os.environ.get("TINY_STEP_S", "0.01")))
    return finish(run, attempt, "finished", 0, resolved.num_steps, resolved.total_tokens)


def leave(run: RunDir, attempt: int, code: int) -> None:
    """As a typed error ends a rank: the first one to leave says why."""
    write_exit(run.root, attempt, code, "bad input", {}, replace=False)
    sys.exit(code)


def finish(run: RunDir, attempt: int, reason: str, code: int, step: int, tokens: int) -> int:
    if dist.get_rank() == 0:
        write_exit(run.root, attempt, code, reason, {"step": step, "tokens": tokens})
    dist.barrier()
    dist.destroy_process_group()
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGUSR1, on_signal)
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir")
    parser.add_argument("--attempt", type=int, required=True)
    given = parser.parse_args()
    if "TINY_EXIT" in os.environ:
        leave(RunDir(Path(given.run_dir)), given.attempt, int(os.environ["TINY_EXIT"]))
    sys.exit(train(RunDir(Path(given.run_dir)), given.attempt))
