"""`windtunnel cancel`: a run leaves."""

from typing import Annotated

import typer


def cancel(run: Annotated[str, typer.Argument(help="Run directory.")]) -> None:
    """Ends a run's jobs, or its training here, with a checkpoint where there is time; it can be resumed.

    Example: windtunnel cancel runs/demo
    """
    from pathlib import Path

    from launch.chain import cancel_run
    from recipe.rundir import RunDir

    cancel_run(RunDir(Path(run)))
