"""`windtunnel resume`: a run goes on."""

from typing import Annotated

import typer


def resume(
    run: Annotated[str, typer.Argument(help="Run directory.")],
    processes: Annotated[int, typer.Option(help="Another number of ranks than before.")] = 0,
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
    from recipe.prepare import load_resolved, relayout
    from recipe.rundir import RunDir

    if load_chain(RunDir(Path(run))) is not None:
        raise typer.Exit(resume_chain(RunDir(Path(run))))
    directory = RunDir.existing(run)
    num_processes = processes or load_resolved(directory).layout.world_size
    relayout(directory, world_size=num_processes)
    raise typer.Exit(train_here(directory, num_processes=num_processes, retry=retry))
