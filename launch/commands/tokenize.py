"""`windtunnel tokenize`: a recipe's corpora to shards."""

from typing import Annotated

import typer


def tokenize(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset.")],
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    data_dir: Annotated[str, typer.Option(help="Tokenizers and shards go here.")] = "data",
    workers: Annotated[int, typer.Option(help="Processes here; all cores where absent.")] = 0,
    task: Annotated[str, typer.Option(help="I/N (or I, with --num-tasks): this task's share, from 0, of an array of N.")] = "",
    num_tasks: Annotated[int, typer.Option(help="N of --task.")] = 0,
    shard_bytes: Annotated[str, typer.Option(help="Input of a shard, about.")] = "2GiB",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and how long it takes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Makes the shards of every source that a stage draws from, only those that are missing.

    Kill it at any time and run it again: shards that are done are kept, the result is the same bytes for any number of
    workers or array tasks. The last task to finish writes the manifests.

    Example: windtunnel tokenize demo --workers 2
    """
    from data_prep.binarize import default_workers
    from recipe import data
    from recipe.load import load_recipe
    from recipe.units import parse_bytes

    config, size = load_recipe(recipe, override), parse_bytes(shard_bytes)
    workers = workers or default_workers()
    if dry_run:
        _estimate(config, data_dir=data_dir, workers=workers, shard_bytes=size, as_json=as_json)
        return
    if task:
        index, count = _share(task, num_tasks)
        data.prepare_task(config, data_dir=data_dir, workers=workers, shard_bytes=size, task=index, num_tasks=count)
    else:
        data.prepare(config, data_dir=data_dir, workers=workers, shard_bytes=size)
    _status(config, data_dir=data_dir, shard_bytes=size, as_json=as_json)


def _share(task: str, num_tasks: int) -> tuple[int, int]:
    """"3/8", or "3" and 8, to (3, 8)."""
    from launch.errors import LaunchError

    index, _, count = task.partition("/")
    try:
        share = int(index), int(count or num_tasks)
    except ValueError:
        share = -1, 0
    if not 0 <= share[0] < share[1]:
        raise LaunchError(f"--task {task}: must be I/N with I from 0 to N - 1 (or I with --num-tasks N)")
    return share


def _estimate(config, *, data_dir: str, workers: int, shard_bytes: int, as_json: bool) -> None:
    import json

    from data_prep.speed import measure
    from recipe import data

    model, states = data.data_status(config, data_dir=data_dir, shard_bytes=shard_bytes)
    plans = data.source_plans(config, model, data_dir=data_dir, shard_bytes=shard_bytes).values() if model else ()
    speed, how = measure(plans)
    left_bytes = sum(state.left_bytes for state in states)
    tasks = sum(state.num_shards - state.num_done for state in states)
    seconds = left_bytes / speed / max(1, min(workers, tasks))
    if as_json:
        sources = [{"name": s.name, "shards": s.num_shards, "done": s.num_done, "left_bytes": s.left_bytes} for s in states]
        print(json.dumps({"sources": sources, "tasks": tasks, "bytes": left_bytes, "seconds": round(seconds, 1)}, indent=2))
        return
    _table(states)
    print(f"{tasks} shards are missing, {left_bytes / 1e9:.3f} GB of input; about {_clock(seconds)} with {workers} processes")
    print(f"({how})")


def _status(config, *, data_dir: str, shard_bytes: int, as_json: bool) -> None:
    import dataclasses
    import json

    from recipe import data

    _, states = data.data_status(config, data_dir=data_dir, shard_bytes=shard_bytes)
    if as_json:
        print(json.dumps([dataclasses.asdict(state) for state in states], indent=2, default=str))
    else:
        _table(states)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"


def _table(states) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    table = Table("source", "shards done", "input MB", "documents", "train tokens", "held-out tokens", "folder")
    for state in states:
        counts = [f"{n:,}" if n is not None else "-" for n in (state.num_documents, state.num_tokens, state.num_heldout_tokens)]
        size = f"{state.total_bytes / 1e6:,.1f}" if state.total_bytes else "?"
        table.add_row(state.name, f"{state.num_done}/{state.num_shards}", size, *counts, str(state.folder or "-"))
    Console(width=None if sys.stdout.isatty() else 160).print(table)  # a log has no width: nothing is cut there
