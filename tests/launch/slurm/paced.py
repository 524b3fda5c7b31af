"""The real trainer, slower: a run then lasts long enough for something to be done to it without many steps to compute.

Environment: PACE_S, seconds that each step waits in the first PACED_ATTEMPTS attempts (1 where absent); SLOW_DISK_S, that each
file of a checkpoint waits to be synced; LEAVE_WITH, the exit code of ranks that were told to leave.
"""

import os
import sys
import threading
import time

from recipe import train
from recipe.exits import REQUEUE
from recipe.watchdog import Watchdog

beat, fsync = Watchdog.beat, os.fsync


def slow_beat(self: Watchdog, what: str) -> None:
    paced = int(os.environ["WINDTUNNEL_ATTEMPT"]) <= int(os.environ.get("PACED_ATTEMPTS", "1"))
    if paced and what.startswith("step"):
        time.sleep(float(os.environ.get("PACE_S", "0")))
    beat(self, what)


def slow_fsync(file: int) -> None:
    if threading.current_thread() is not threading.main_thread():  # checkpoints are written by a thread of their own
        time.sleep(float(os.environ.get("SLOW_DISK_S", "0")))
    fsync(file)


if __name__ == "__main__":
    Watchdog.beat, os.fsync = slow_beat, slow_fsync
    code = train.main()
    sys.exit(int(os.environ.get("LEAVE_WITH", REQUEUE)) if code == REQUEUE else code)
