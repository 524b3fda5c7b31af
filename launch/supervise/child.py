"""A supervised child process: signals that reach us are passed on in a form that asks the ranks for a checkpoint.

The child leads a session of its own, so that Ctrl-C and SLURM's signals reach it only through us, and nothing of it
outlives us or itself: it gets SIGTERM when we die, and what is left of its session is killed when it ends.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
REPEAT_S = 5.0  # a rank that isn't listening yet ignores the request, so it is made again
POLL_S = 0.2
_PR_SET_PDEATHSIG = 1


@contextmanager
def stop_requests() -> Iterator[list[signal.Signals]]:
    """Yields the stop signals received so far, in order, while the block runs; restores the old handlers after it."""
    received: list[signal.Signals] = []
    before = {one: signal.signal(one, lambda number, _: received.append(signal.Signals(number))) for one in STOP_SIGNALS}
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def run_child(
    command: list[str], *, env: dict[str, str], received: list[signal.Signals], ask_to_leave: Callable[[int], None],
    watch: Callable[[], None] = lambda: None, log: Path | None = None,
) -> int:
    """Runs a command to its end and returns its exit code as `subprocess` tells it.

    Args:
        command: Program and arguments.
        env: Its whole environment.
        received: Stop requests, from `stop_requests`.
        ask_to_leave: Called with the child's process id once for a request, and again every few seconds until it ends. A
            second SIGINT kills instead.
        watch: Called a few times a second.
        log: Where the child's stdout and stderr go; ours where None.
    """
    with open(log, "ab") if log else nullcontext() as output:
        child = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    asked_s = 0.0
    while not _has_ended(child.pid):
        if received and time.monotonic() - asked_s >= REPEAT_S:
            asked_s = time.monotonic()
            ask_to_leave(child.pid)
        if received.count(signal.SIGINT) > 1:
            _kill_session(child.pid)
        watch()
        time.sleep(POLL_S)
    _kill_session(child.pid)  # before the child is reaped, while the session's number can't be anybody else's
    return child.wait()


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_session(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nothing is left but the child itself, ended
        os.killpg(pid, signal.SIGKILL)


def signal_descendants(pid: int, number: int = signal.SIGUSR1, *, marker: str = "recipe.train") -> None:
    """Signals the ranks below a launcher, and not the launcher, which would kill them one after the other."""
    import psutil

    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for process in below:
        try:
            if marker in process.cmdline():
                process.send_signal(number)
        except psutil.Error:
            continue
