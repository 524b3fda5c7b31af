"""`windtunnel status`: how runs stand."""

from typing import Annotated

import typer


def status(
    run: Annotated[str, typer.Argument(help="Run directory; all runs where absent.")] = "",
    root: Annotated[str, typer.Option(help="Folder of the runs.")] = "runs",
    watch: Annotated[bool, typer.Option("--watch", help="A live table, until Ctrl-C.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Runs with the decays that branch from them.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks with --watch.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Stage, step, loss, rate, time left, attempts and their ends, place in the queue: of one run, or of all.

    Example: windtunnel status runs/demo --watch
    """
    from pathlib import Path

    from launch.show_status import look, show

    if tree:
        from launch.tree import show_tree

        show_tree(look(Path(run) if run else None, Path(root)), as_json=as_json)
        return
    show(Path(run) if run else None, root=Path(root), watch=watch, every_s=every, as_json=as_json)
