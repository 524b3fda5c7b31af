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
    from pathlib import Path

    from launch.chain import resume_chain
    from launch.local import train_here
    from launch.slurm.record import load_chain
    from recipe.resolve import ResolvedRun
    from recipe.rundir import RunDir, read_json

    if load_chain(RunDir(Path(run))) is not None:
        raise typer.Exit(resume_chain(RunDir(Path(run))))
    directory = RunDir.existing(run)
    layout = ResolvedRun.model_validate(read_json(directory.resolved)).layout
    raise typer.Exit(train_here(directory, num_processes=layout.world_size, retry=retry))
