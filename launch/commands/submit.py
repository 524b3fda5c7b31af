"""`windtunnel submit`: a recipe, on a cluster, to the end."""

from typing import Annotated

import typer


def submit(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset.")],
    cluster: Annotated[str, typer.Option(help="Site file or example; `local`: the same chain on this machine.")],
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of a training job.")] = 1,
    min_nodes: Annotated[int, typer.Option(help="As few as it may go on with after a loss; all of them where 0.")] = 0,
    override: Annotated[list[str], typer.Option("--override", "-o", help="Recipe: key.path=value; may be repeated.")] = [],  # noqa: B006
    setting: Annotated[list[str], typer.Option("--set", "-s", help="Site: key=value; may be repeated.")] = [],  # noqa: B006
    run_dir: Annotated[str, typer.Option(help="Where the run goes; runs/<name of the recipe> where absent.")] = "",
    data_dir: Annotated[str, typer.Option(help="Where tokenizer and shards are.")] = "data",
    decay_at: Annotated[list[str], typer.Option(help="A decay branch from the checkpoint at so many tokens; repeat.")] = [],  # noqa: B006
    after: Annotated[str, typer.Option(help="Id of a job to wait for.")] = "",
    until: Annotated[str, typer.Option(help="The last link: data, train or report.")] = "report",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show all files and the graph; write and submit nothing.")] = False,
) -> None:
    """Submits a recipe once: tokenizing, training over many time limits, decays, evaluation, export and report follow.

    Example: windtunnel submit xmodel2-1.2b --cluster h100 --nodes 4 --min-nodes 2 --dry-run
    """
    from pathlib import Path

    from launch.chain import run_submission, settings_of, submission_of
    from recipe.load import load_recipe

    config = load_recipe(recipe, override)
    submission = submission_of(
        config, cluster=cluster, settings=settings_of(setting), run_dir=Path(run_dir or f"runs/{config.name}"),
        data_dir=Path(data_dir), num_nodes=nodes, min_nodes=min_nodes or None, decay_at=decay_at, until=until,
    )
    raise typer.Exit(run_submission(submission, after=after, dry_run=dry_run))
