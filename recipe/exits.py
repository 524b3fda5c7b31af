"""Exit codes of the training program, as launchers understand them."""

FINISHED = 0
FAILED = 1
BAD_INPUT = 2
REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: there is a checkpoint, start me again
