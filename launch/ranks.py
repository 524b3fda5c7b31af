"""A program of several ranks on this machine, from start to end: `run_ranks("recipe.audit", [run], num_processes=2)`."""

import os
import subprocess
import sys
from collections.abc import Sequence

from launch.errors import LaunchError
from launch.local import free_port, num_devices
from recipe.exits import BAD_INPUT


def run_ranks(module: str, arguments: Sequence[str], *, num_processes: int) -> str:
    """Starts `python -m module` once a rank and returns its last line of JSON on stdout.

    Raises:
        LaunchError: A rank failed; with what it said.
    """
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node", str(num_processes)]
    command += ["--master_port", str(free_port()), "-m", module, *arguments]
    env = dict(os.environ)
    if not num_devices():
        env["DS_ACCELERATOR"] = "cpu"
        env.setdefault("OMP_NUM_THREADS", str(max(len(os.sched_getaffinity(0)) // num_processes, 1)))
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and "torch/distributed" not in line]
        plain = [line for line in said if not line.startswith(("W", "E", "Traceback", " ", "*", "="))]
        traced = [line for line in said if line.startswith("[rank")]  # a rank's own traceback, before the launcher's
        words = plain[:1] if f"exitcode  : {BAD_INPUT}" in done.stderr and plain else (traced or said)[-20:]
        raise LaunchError(f"{module} on {num_processes} processes failed:\n" + "\n".join(words))
    return [line for line in done.stdout.splitlines() if line.startswith("{")][-1]
