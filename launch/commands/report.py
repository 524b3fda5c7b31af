"""`windtunnel report`: one HTML page of one run or several."""

from typing import Annotated

import typer


def report(
    runs: Annotated[list[str], typer.Argument(help="Run directories; several are compared side by side.")],
    out: Annotated[str, typer.Option(help="File to write; RUN/report.html for one run, report.html here for several.")] = "",
    gpu: Annotated[str, typer.Option(help="Device of the planner's prediction, as for plan; the run's own where known.")] = "",
    published: Annotated[str, typer.Option(help="JSON of other models' results: {model: {benchmark: per cent}}.")] = "",
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Draws one self-contained HTML page: what ran, mixtures, training, evaluations, muP, the planner's word, samples.

    Example: windtunnel report runs/demo runs/other --out both.html --open
    """
    import webbrowser
    from pathlib import Path

    from launch.errors import LaunchError
    from launch.predict import predict
    from recipe.report.page import write_report
    from recipe.rundir import RunDir

    found = [RunDir.existing(run) for run in runs]
    for one in found:
        try:
            predict(one, gpu=gpu)
        except LaunchError as error:
            if gpu:
                raise
            typer.echo(f"no prediction for {one.root}: {error}", err=True)
    default = None if len(found) == 1 else Path("report.html")
    path = write_report(found, Path(out) if out else default, published=Path(published) if published else None)
    typer.echo(path)
    if open_:
        webbrowser.open(path.resolve().as_uri())
