"""Attempts of a run: numbered folders that are records, and fencing tokens too.

An attempt is one start of the training program. Its number comes from making its folder, so a higher number is a later
attempt, and the trainer refuses to write into the run once a later folder exists: ranks of a lost node can't spoil it.
"""

import os
import socket
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from launch.errors import LaunchError
from recipe.exits import FINISHED
from recipe.rundir import RunDir, read_json, read_jsonl, tokens_of, write_json


@dataclass(frozen=True, kw_only=True)
class StartRecord:
    """`start.json`, written by the launcher before any rank runs."""

    job: str
    restart: int
    host: str
    pid: int
    world_size: int
    nodes: list[str]
    tokens: int
    """Tokens of the checkpoint that the attempt starts from: how progress between attempts is told."""
    time: float
    """Seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class ExitRecord:
    """`exit.json`: how an attempt ended. Rank 0 writes it; the launcher does where the ranks couldn't."""

    reason: str
    exit_code: int | None
    step: int
    tokens: int
    time: float


@dataclass(frozen=True)
class Attempt:
    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name.partition("-")[0])

    @property
    def job(self) -> str:
        return self.folder.name.partition("-")[2]

    @property
    def start_file(self) -> Path:
        return self.folder / "start.json"

    @property
    def exit_file(self) -> Path:
        return self.folder / "exit.json"

    @property
    def health_file(self) -> Path:
        return self.folder / "health.json"

    def started(self) -> StartRecord | None:
        return _load(StartRecord, self.start_file)

    def ended(self) -> ExitRecord | None:
        return _load(ExitRecord, self.exit_file)

    def rank_logs(self) -> list[Path]:
        return sorted(self.folder.glob("rank_*.log"))


def _load(record: type, path: Path):
    """A record as far as its known keys go (the trainer may write more); None when there is no file."""
    if not path.is_file():
        return None
    content = read_json(path)
    return record(**{field.name: content.get(field.name) for field in fields(record)})


def attempts_of(run: RunDir) -> list[Attempt]:
    return [Attempt(folder) for folder in run.attempt_dirs()]


def open_attempt(run: RunDir, *, job: str, world_size: int, nodes: list[str], restart: int = 0) -> Attempt:
    """Makes the next attempt's folder and writes its start; earlier attempts without an end are closed as lost."""
    run.attempts.mkdir(parents=True, exist_ok=True)
    earlier = attempts_of(run)
    for attempt in earlier:
        close_attempt(run, attempt, reason="lost", exit_code=None)
    number = max((attempt.number for attempt in earlier), default=0) + 1
    attempt = Attempt(run.attempt(number, job))
    try:
        attempt.folder.mkdir()
    except FileExistsError as error:
        raise LaunchError(f"{attempt.folder}: another process is starting this run at this moment") from error
    if rivals := [one for one in attempts_of(run) if one.number >= number and one.folder != attempt.folder]:
        attempt.folder.rmdir()
        raise LaunchError(f"{rivals[0].folder}: another process is starting this run at this moment")
    record = StartRecord(
        job=job, restart=restart, host=socket.gethostname(), pid=os.getpid(), world_size=world_size, nodes=nodes,
        tokens=checkpoint_tokens(run), time=time.time(),
    )
    write_json(attempt.start_file, asdict(record))
    return attempt


def close_attempt(run: RunDir, attempt: Attempt, *, reason: str, exit_code: int | None) -> ExitRecord:
    """The attempt's end as rank 0 wrote it, or else written now with what the metrics say about how far it came.

    Only rank 0 can say that a run is finished: srun ends with 0 after a node failure.
    """
    if (record := attempt.ended()) is not None:
        return record
    if exit_code == FINISHED:
        reason, exit_code = "lost: no rank said how it ended", None
    step, tokens = last_step(run)
    record = ExitRecord(reason=reason, exit_code=exit_code, step=step, tokens=tokens, time=time.time())
    write_json(attempt.exit_file, asdict(record))
    return record


def is_fenced(run: RunDir, attempt: Attempt) -> bool:
    """Whether a later attempt has begun."""
    return any(one.number > attempt.number for one in attempts_of(run))


def checkpoint_tokens(run: RunDir) -> int:
    """Tokens of the newest whole checkpoint; 0 when there is none."""
    whole = run.whole_checkpoints()
    return tokens_of(whole[-1]) if whole else 0


def last_step(run: RunDir) -> tuple[int, int]:
    """(steps, tokens) done by the last whole line of the metrics, which counts steps from 0."""
    for line in reversed(read_jsonl(run.metrics)):
        return int(line["step"]) + 1, int(line["tokens"])
    return 0, 0


def running_here(run: RunDir) -> StartRecord | None:
    """The start of the newest attempt, if the launcher that wrote it is alive on this machine."""
    for attempt in reversed(attempts_of(run)):
        start = attempt.started()
        if attempt.ended() is None and start and start.host == socket.gethostname() and _is_alive(start):
            return start
        break
    return None


def _is_alive(start: StartRecord) -> bool:
    """Same process id, begun before the record was written (ids are used again after a while)."""
    import psutil

    try:
        process = psutil.Process(start.pid)
        return process.create_time() <= start.time + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
