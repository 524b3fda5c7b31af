"""`windtunnel resume`: a run goes on."""

from typing import Annotated

import typer


def resume(
    run: Annotated[str, typer.Argument(help="Run directory.")],
    retry: Annotated[
        bool, typer.Option("--retry", help="Start again after a failure, until three attempts made no progress.")
    ] = False,
) -> None:
    """Goes on with a run from its newest checkpoint, where it was last.

    Example: windtunnel resume runs/demo
    """
    from launch.local import train_here
    from recipe.resolve import ResolvedRun
    from recipe.rundir import RunDir, read_json

    directory = RunDir.existing(run)
    layout = ResolvedRun.model_validate(read_json(directory.resolved)).layout
    raise typer.Exit(train_here(directory, num_processes=layout.world_size, retry=retry))
