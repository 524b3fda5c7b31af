"""Runs one link that doesn't train, inside its job: `python -m launch.slurm.link RUN LINK ARGUMENT…`.

The arguments are those of `windtunnel`; `{task}` in them becomes the array task's index, and `@FILE` is a JSON list with the
arguments of each task. How the command ended goes into the run directory, for `windtunnel status`: SLURM forgets a job
after minutes where it has no database.
"""

import os
import subprocess
import sys
from pathlib import Path

from launch.slurm.chain import TASK
from launch.slurm.record import write_end
from launch.supervise.outcome import describe_exit, normal_exit_code
from recipe.rundir import RunDir, read_json

TAIL_LINES = 5


def run_link(run: RunDir, name: str, arguments: list[str], *, job: str, task: int | None = None) -> int:
    """Runs the command with its output passed through, records its end, returns its exit code."""
    if task is not None and arguments[0].startswith("@"):
        arguments = read_json(Path(arguments[0].removeprefix("@")))[task]
    arguments = [argument.replace(TASK, str(task)) for argument in arguments]
    command = [sys.executable, "-u", "-m", "launch.cli", *arguments]
    print(f"$ windtunnel {' '.join(arguments)}", flush=True)
    last: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as child:
        for line in child.stdout or ():
            print(line, end="", flush=True)
            last = [*last, line.strip()][-TAIL_LINES:]
    code = normal_exit_code(child.returncode)
    said = next((line for line in reversed(last) if line), "")
    reason = "done" if code == 0 else f"{describe_exit(code)}: {said}"
    write_end(run, name, job=job, exit_code=code, reason=reason, task=task)
    return code


def main() -> int:
    root, name, *arguments = sys.argv[1:]
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    task = int(os.environ["SLURM_ARRAY_TASK_ID"]) if array else None
    return run_link(RunDir(Path(root)), name, arguments, job=array or os.environ.get("SLURM_JOB_ID", "local"), task=task)


if __name__ == "__main__":
    sys.exit(main())
