"""`windtunnel worker`: serves trials of a study."""

from typing import Annotated

import typer


def worker(study: Annotated[str, typer.Argument(help="Folder of a study whose owner runs, or will in a moment.")]) -> None:
    """Serves trials of a study until its owner says stop. `--cluster` submits it; start more wherever the folder is seen.

    Example: windtunnel worker runs/sweep-demo
    """
    from launch.search.worker import main

    main([study])
