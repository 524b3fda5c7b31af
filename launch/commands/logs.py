"""`windtunnel logs`: what ranks and jobs wrote."""

from typing import Annotated

import typer


def logs(
    run: Annotated[str, typer.Argument(help="Run directory.")],
    link: Annotated[str, typer.Option(help="A link's job log instead of the ranks' (train, tokenize, …).")] = "",
    rank: Annotated[int, typer.Option(help="Whose log.")] = 0,
    attempt: Annotated[int, typer.Option(help="Of which attempt; the newest where 0.")] = 0,
    lines: Annotated[int, typer.Option("--lines", "-n", help="So many from the end; all where 0.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows, into later attempts too.")] = False,
) -> None:
    """Shows the log of a rank in an attempt, or of a link's job.

    Example: windtunnel logs runs/demo --rank 3 -f
    """
    from pathlib import Path

    from launch.show_logs import show
    from recipe.rundir import RunDir

    show(RunDir(Path(run)), link=link, rank=rank, attempt=attempt, num_lines=lines, follow=follow)
