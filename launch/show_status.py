"""`windtunnel status` as tables, JSON or a live view."""

import time
from pathlib import Path

import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from launch.errors import LaunchError
from launch.status import RunStatus, find_runs, statuses
from recipe.rundir import RunDir
from recipe.units import format_count, format_seconds

COLOURS = {"running": "green", "finished": "green", "done": "green", "failed": "red", "lost": "red", "blocked": "red",
           "cancelled": "yellow", "stopped": "yellow", "requeued": "cyan", "queued": "cyan", "waiting": "dim"}


def show(path: Path | None, *, root: Path, watch: bool, every_s: float, as_json: bool) -> None:
    """Prints the state of one run or of all; with `watch`, again and again."""
    if as_json:
        found = look(path, root)
        content = [one.as_json() for one in found]
        print(orjson.dumps(content[0] if path else content, option=orjson.OPT_INDENT_2).decode())
        return
    console = Console()
    if not watch:
        console.print(drawn(look(path, root), alone=path is not None))
        return
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(drawn(look(path, root), alone=path is not None), refresh=True)
                time.sleep(every_s)
        except KeyboardInterrupt:
            return


def look(path: Path | None, root: Path) -> list[RunStatus]:
    """Raises `LaunchError` where there is no run."""
    if path is None:
        return statuses(find_runs(root))
    if not (path / "config").is_dir() and not (path / "jobs").is_dir():
        raise LaunchError(f"{path}: no run directory; `windtunnel status` lists the runs in {root}")
    return statuses([RunDir(path)])


def drawn(found: list[RunStatus], *, alone: bool) -> Group | Table | Text:
    if not found:
        return Text("no runs here")
    return detail(found[0]) if alone else overview(found)


def overview(found: list[RunStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("run", "state", "stage", "step", "tokens", "loss", "tokens/s", "left", "attempts", ""):
        table.add_column(name, overflow="fold")
    for one in _flat(found):
        table.add_row(
            one.path, _coloured(one.state), one.stage or "", _of(one.step, one.num_steps), _tokens(one),
            "" if one.loss is None else f"{one.loss:.4f}", "" if one.tokens_per_s is None else format_count(one.tokens_per_s),
            "" if one.left_s is None else format_seconds(one.left_s), str(len(one.attempts) or ""), one.detail,
        )
    return table


def _flat(found: list[RunStatus]) -> list[RunStatus]:
    return [each for one in found for each in (one, *_flat(one.branches))]


def detail(one: RunStatus) -> Group:
    """One run: the line of the overview as a list, then its links, then its attempts."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    rows = [
        ("run", one.path), ("state", f"{one.state}{': ' + one.detail if one.detail else ''}"), ("stage", one.stage or "-"),
        ("step", _of(one.step, one.num_steps)), ("tokens", _tokens(one)),
        ("loss", "-" if one.loss is None else f"{one.loss:.4f} nats/token"),
    ]
    if one.tokens_per_s is not None:
        rows.append(("rate", f"{format_count(one.tokens_per_s)} tokens/s"))
    if one.left_s is not None:
        rows.append(("left", format_seconds(one.left_s)))
    for row in rows:
        facts.add_row(*row)
    parts: list[Table | Text] = [facts]
    if one.links:
        parts += [Text(), _links(one)]
    if one.attempts:
        parts += [Text(), _attempts(one)]
    if one.branches:
        parts += [Text(), overview(one.branches)]
    return Group(*parts)


def _links(one: RunStatus) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("link", "state", "job", ""):
        table.add_column(name, overflow="fold")
    for link in one.links:
        table.add_row(link.name, _coloured(link.state), link.job or "", link.detail)
    return table


def _attempts(one: RunStatus) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("attempt", "job", "nodes", "exit", "at step", "when", "why it ended"):
        table.add_column(name, overflow="fold")
    for attempt in one.attempts:
        when = "" if attempt.time is None else time.strftime("%m-%d %H:%M:%S", time.localtime(attempt.time))
        step = "" if attempt.step is None else str(attempt.step)
        table.add_row(str(attempt.number), attempt.job, attempt.nodes, attempt.state, step, when, attempt.reason)
    return table


def _coloured(state: str) -> Text:
    return Text(state, style=COLOURS.get(state, ""))


def _of(value: int, whole: int | None) -> str:
    return f"{value}/{whole}" if whole else str(value)


def _tokens(one: RunStatus) -> str:
    return f"{format_count(one.tokens)}/{format_count(one.total_tokens)}" if one.total_tokens else format_count(one.tokens)
