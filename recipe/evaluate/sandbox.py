"""Runs a program that a model wrote: no network, no files but its own folder, bounded time, memory and output. Linux.

Three walls of the kernel, checked each time: namespaces (network, processes), Landlock (files), resource limits. Where one
can't be put up the program isn't run. This stops accidents and idle mischief, not an attacker with a kernel exploit.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from recipe.errors import RecipeError

CHILD = Path(__file__).with_name("sandbox_child.py")
READABLE = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/dev/null", "/dev/urandom")
MAX_OUTPUT_BYTES = 1 << 16


class SandboxError(RecipeError):
    """This machine can't isolate the program, so it wasn't run."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one program."""

    seconds: float = 5.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 1 << 20


@dataclass(frozen=True)
class Verdict:
    """How a program ended: `passed` only if it ran to its last line."""

    passed: bool
    reason: str
    """passed, timed out, or the last line of what it said."""


def run(program: str, limits: Limits = Limits()) -> Verdict:
    """Runs Python text; raises `SandboxError` where it can't be isolated."""
    word = secrets.token_hex(16)
    readable = [*READABLE, sys.base_prefix, os.path.realpath(sys.base_prefix)]
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
        read_end, write_end = os.pipe()
        command = [
            sys.executable, "-I", "-S", str(CHILD), str(write_end), str(limits.seconds), str(limits.memory_bytes),
            str(limits.file_bytes), folder, word, *readable,
        ]
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=output, stderr=output, pass_fds=(write_end,), start_new_session=True,
                    env={"PATH": "/usr/bin:/bin", "HOME": folder, "PYTHONHASHSEED": "0"}, cwd=folder,
                )
            finally:
                os.close(write_end)
            timed_out = _finish(process, program, limits.seconds)
            with os.fdopen(read_end) as answer:
                said = answer.read(4096)
            output.seek(0)
            text = output.read(MAX_OUTPUT_BYTES).decode("utf-8", "replace")
    if said.startswith("cannot isolate"):
        raise SandboxError(f"the sandbox can't hold a program on this machine: {said.strip()}")
    if timed_out:
        return Verdict(False, "timed out")
    if said.strip() == word:
        return Verdict(True, "passed")
    lines = [line for line in text.splitlines() if line.strip()]
    return Verdict(False, lines[-1][:200] if lines else f"exit code {process.returncode}")


def _finish(process: subprocess.Popen, program: str, seconds: float) -> bool:
    """Waits; kills the whole session at the end of its time. Returns whether it had to."""
    try:
        process.communicate(program.encode("utf-8", "replace"), timeout=seconds + 1)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
