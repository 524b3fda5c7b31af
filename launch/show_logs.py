"""`windtunnel logs`: finds the right file of a run, and follows it over attempts and restarts."""

import sys
import time
from pathlib import Path

from launch.errors import LaunchError
from launch.supervise.attempts import attempts_of
from launch.supervise.rank import rank_log
from recipe.rundir import RunDir

POLL_S = 0.5


def log_file(run: RunDir, *, link: str, rank: int, attempt: int) -> Path:
    """The newest file that fits; raises `LaunchError` naming what there is."""
    if link:
        found = sorted(run.jobs.glob(f"{link}-*.log"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise LaunchError(f"{run.root}: no log of a link {link}; there are: {_links(run)}")
        return found[-1]
    attempts = [one for one in attempts_of(run) if attempt in (0, one.number)]
    if not attempts:
        have = ", ".join(str(one.number) for one in attempts_of(run)) or "none yet"
        raise LaunchError(f"{run.root}: no attempt {attempt or ''}; there are: {have}; logs of links (--link): {_links(run)}")
    path = rank_log(attempts[-1].folder, rank)
    if not path.is_file():
        have = ", ".join(log.stem.removeprefix("rank_").lstrip("0") or "0" for log in attempts[-1].rank_logs()) or "none yet"
        raise LaunchError(f"{attempts[-1].folder}: no log of rank {rank}; there are: {have}")
    return path


def _links(run: RunDir) -> str:
    return ", ".join(sorted({path.name.rpartition("-")[0] for path in run.jobs.glob("*-*.log")})) or "none yet"


def show(run: RunDir, *, link: str, rank: int, attempt: int, num_lines: int, follow: bool) -> None:
    path = log_file(run, link=link, rank=rank, attempt=attempt)
    print(f"==> {path} <==", file=sys.stderr)
    text = path.read_bytes()
    shown = b"".join(text.splitlines(keepends=True)[-num_lines:]) if num_lines else text
    _write(shown)
    try:
        while follow:
            time.sleep(POLL_S)
            newest = log_file(run, link=link, rank=rank, attempt=attempt)
            if newest != path:
                path, text = newest, b""
                print(f"==> {path} <==", file=sys.stderr)
            with open(path, "rb") as file:
                file.seek(len(text))
                more = file.read()
            text += more
            _write(more)
    except KeyboardInterrupt:
        return


def _write(content: bytes) -> None:
    sys.stdout.write(content.decode("utf-8", errors="replace"))
    sys.stdout.flush()
