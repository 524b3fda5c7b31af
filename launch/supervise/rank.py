"""Becomes one rank: `python -m launch.supervise.rank LOG_DIR MODULE ARGUMENT…`, run by a launcher for each process.

It sends output to the rank's own log (`-` leaves it where it is, for srun) and makes the rank deaf to SIGUSR1 until the
program listens: the signal's default would kill a rank that is still importing. Then it is replaced by the program.
"""

import os
import signal
import sys
from pathlib import Path


def rank_log(folder: Path, rank: int) -> Path:
    return folder / f"rank_{rank:05d}.log"


def main() -> None:
    folder, module, *arguments = sys.argv[1:]
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # ignoring outlives exec
    if folder != "-":
        log = os.open(rank_log(Path(folder), int(os.environ["RANK"])), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
    os.execv(sys.executable, [sys.executable, "-u", "-m", module, *arguments])


if __name__ == "__main__":
    main()
