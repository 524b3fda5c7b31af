"""A worker: one process that serves many trials of a study. `python -m launch.search.worker STUDY` (any number, anywhere)."""

import argparse
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from data_prep.atomic import write_json
from launch.search.beat import PATIENCE_S, Heart, Listener, beating
from launch.search.folder import Study, read_or_none
from launch.search.trial import Result, Trial

POLL_S = 0.05


def serve(study: Study, *, name: str, run: Callable[[Trial], Result], patience_s: float = PATIENCE_S) -> None:
    """Runs what the owner assigns until it says stop, or isn't heard of for `patience_s`.

    A result that is there already is never run again; a trial that raises becomes a failed result, and the worker goes on.
    """
    owner, parent = Listener(patience_s=patience_s), os.getppid()
    study.assigned(name).unlink(missing_ok=True)  # meant for a namesake
    with beating(study.worker(name), host=socket.gethostname(), pid=os.getpid()):
        last_heard = time.monotonic()
        while os.getppid() == parent:
            if owner.hear(study.owner) is Heart.ALIVE:
                last_heard = time.monotonic()
            elif time.monotonic() - last_heard > patience_s:
                print(f"{name}: no owner for {patience_s:g} s; leaving", file=sys.stderr)
                return
            told = read_or_none(study.assigned(name)) or {}
            if told.get("stop"):
                return
            number = told.get("trial")
            if number is None or study.result(number).is_file():
                time.sleep(POLL_S)
                continue
            trial = Trial.model_validate_json(study.trial(number).read_bytes())
            write_json(study.result(number), run_safely(run, trial).model_dump(mode="json"))
            last_heard = time.monotonic()


def run_safely(run: Callable[[Trial], Result], trial: Trial) -> Result:
    """The trial's result; an exception is one too, with its last line (the log has all of it)."""
    started = time.perf_counter()
    try:
        return run(trial)
    except Exception as error:
        traceback.print_exc()
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        return Result(trial=trial, status="failed", detail=detail, seconds=time.perf_counter() - started)


def main(arguments: list[str] | None = None) -> None:
    """Loads everything once, then serves."""
    parser = argparse.ArgumentParser(prog="python -m launch.search.worker", description="Serves trials of a study.")
    parser.add_argument("study", type=Path)
    parser.add_argument("--name", default=f"{socket.gethostname()}-{os.getpid()}")
    options = parser.parse_args(arguments)
    study = Study(options.study)
    warnings.filterwarnings("ignore", module=r"(megatron|torch)\.")  # what is absent here is `windtunnel doctor`'s to say
    from launch.search.train import Workshop

    serve(study, name=options.name, run=Workshop(study).run)


if __name__ == "__main__":
    main()
