"""Training on this machine: attempts of `recipe.train` on N processes by DeepSpeed's launcher, with progress and signals.

    code = train_here(RunDir.existing("runs/demo"), num_processes=2)
"""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson

from data_prep.progress import Progress, progress
from launch.errors import LaunchError
from launch.supervise.attempts import (
    Attempt,
    attempts_of,
    checkpoint_tokens,
    close_attempt,
    last_step,
    open_attempt,
    running_here,
)
from launch.supervise.child import stop_requests
from launch.supervise.node import TRAIN_MODULE, launcher_command, run_node
from launch.supervise.outcome import Action, Decision, decide, describe_exit
from recipe.exits import BAD_INPUT, FINISHED, REQUEUE
from recipe.prepare import load_resolved
from recipe.rundir import RunDir

LOCAL_JOB = "local"


def num_devices() -> int:
    """GPUs that this process may use, told without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip()])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def default_processes(multiple: int) -> int:
    """One process per GPU, or two on CPUs; at least, and a multiple of, what the layout takes (tp·pp·cp)."""
    wanted = num_devices() or min(2, os.cpu_count() or 1)
    return max(wanted // multiple, 1) * multiple


def train_here(run: RunDir, *, num_processes: int, retry: bool = False, module: str = TRAIN_MODULE) -> int:
    """Runs a run to its end, or until it is told to leave or fails; returns the exit code for the shell.

    Args:
        run: A prepared run directory; it goes on from its newest checkpoint.
        num_processes: Ranks.
        retry: Start again after a failure, as under SLURM, until three attempts in a row came to no new checkpoint.
        module: The training program.

    Raises:
        LaunchError: The run is being trained already.
    """
    if (other := running_here(run)) is not None:
        raise LaunchError(f"{run.root}: process {other.pid} is training this run; `windtunnel cancel {run.root}` ends that")
    resolved = load_resolved(run)
    with stop_requests() as received:
        while True:
            attempt = open_attempt(run, job=LOCAL_JOB, world_size=num_processes, nodes=[socket.gethostname()])
            decision, code = _one_attempt(
                run, attempt, num_processes=num_processes, total_tokens=resolved.total_tokens, received=received, module=module
            )
            if decision.action is Action.AGAIN and retry and not received:
                print(f"attempt {attempt.number} {decision.reason}; starting again", file=sys.stderr)
                continue
            return _tell(run, attempt, decision, code)


def _one_attempt(
    run: RunDir, attempt: Attempt, *, num_processes: int, total_tokens: int, received: list[signal.Signals], module: str
) -> tuple[Decision, int | None]:
    command = launcher_command(
        run.root.absolute(), attempt=attempt.number, log_dir=attempt.folder.absolute(), processes_per_node=num_processes,
        master_port=free_port(), visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"), module=module,
    )
    done = checkpoint_tokens(run)
    where = f"from {done} of {total_tokens} tokens; logs in {attempt.folder}"
    print(f"attempt {attempt.number} on {num_processes} processes, {where}", file=sys.stderr)
    with progress(total_tokens, unit="tokens", label=run.name) as bar:
        code = run_node(
            command, env=rank_environment(attempt, num_processes=num_processes), received=received,
            log=attempt.folder / "node_0000.log", watch=metrics_watcher(run, bar),
        )
    record = close_attempt(run, attempt, reason=describe_exit(code), exit_code=code)
    decision = decide(
        record.exit_code, reason=record.reason, tokens=checkpoint_tokens(run),
        starts_tokens=[start.tokens for one in attempts_of(run) if (start := one.started())],
    )
    return decision, record.exit_code


def rank_environment(attempt: Attempt, *, num_processes: int) -> dict[str, str]:
    """This environment and the attempt's number; CPU threads are shared out among the ranks unless OMP_NUM_THREADS is set."""
    env = dict(os.environ, WINDTUNNEL_ATTEMPT=str(attempt.number))
    env.setdefault("OMP_NUM_THREADS", str(max(len(os.sched_getaffinity(0)) // num_processes, 1)))
    if not num_devices():
        env.setdefault("DS_ACCELERATOR", "cpu")
    return env


def free_port() -> int:
    """A TCP port that nothing on this machine listens at now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def metrics_watcher(run: RunDir, bar: Progress) -> Callable[[], None]:
    """A function that moves the bar to the last whole line of the metrics; steps taken again after a resume move it back."""
    offset = shown = 0

    def watch() -> None:
        nonlocal offset, shown
        try:
            with open(run.metrics, "rb") as file:
                if file.seek(0, os.SEEK_END) < offset:
                    offset = 0
                file.seek(offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        if newline:
            offset += len(whole) + 1
            tokens = orjson.loads(whole.rpartition(b"\n")[2])["tokens"]
            bar.advance(tokens - shown)
            shown = tokens

    return watch


def _tell(run: RunDir, attempt: Attempt, decision: Decision, code: int | None) -> int:
    """Says on stderr how the run stands, and what to type; returns the exit code."""
    step, tokens = last_step(run)
    if decision.action is Action.DONE:
        print(f"{run.root}: finished at step {step}, {tokens} tokens", file=sys.stderr)
        return FINISHED
    where = f"newest checkpoint at {checkpoint_tokens(run)} tokens"
    if code == REQUEUE:
        print(f"{run.root}: left at step {step}, {where}; go on with: windtunnel resume {run.root}", file=sys.stderr)
        return REQUEUE
    print(last_words(attempt), file=sys.stderr)
    mend = "" if code == BAD_INPUT else f"; {where}; go on with: windtunnel resume {run.root}"
    print(f"{run.root}: {decision.reason}{mend}", file=sys.stderr)
    return BAD_INPUT if code == BAD_INPUT else 1


def last_words(attempt: Attempt, *, num_lines: int = 15) -> str:
    """The end of the log that most likely has the cause: of the ranks with a traceback, the one that fell silent first."""
    logs = [path for path in (*attempt.rank_logs(), *sorted(attempt.folder.glob("node_*.log"))) if path.stat().st_size]
    if not logs:
        return f"{attempt.folder}: no rank wrote a log"
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in logs}
    guilty = sorted((path for path in logs if "Traceback" in texts[path]), key=lambda path: path.stat().st_mtime)
    chosen = (guilty or logs)[0]
    lines = texts[chosen].rstrip().splitlines()[-num_lines:]
    return "\n".join([f"--- end of {chosen}", *lines, "---"])
