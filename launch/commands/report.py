"""`windtunnel report`: one HTML page of one run or several."""

from typing import Annotated

import typer


def report(
    runs: Annotated[list[str], typer.Argument(help="Run directories; several are compared side by side.")],
    out: Annotated[str, typer.Option(help="File to write; RUN/report.html for one run, report.html here for several.")] = "",
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Draws one self-contained HTML page: what ran, mixtures, loss and learning rate, held-out table, samples.

    Example: windtunnel report runs/demo runs/other --out both.html --open
    """
    import webbrowser
    from pathlib import Path

    from recipe.report.page import write_report
    from recipe.rundir import RunDir

    found = [RunDir.existing(run) for run in runs]
    default = None if len(found) == 1 else Path("report.html")
    path = write_report(found, Path(out) if out else default)
    typer.echo(path)
    if open_:
        webbrowser.open(path.resolve().as_uri())
