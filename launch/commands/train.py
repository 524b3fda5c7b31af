"""`windtunnel train`: a recipe, here."""

from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset.")],
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    run_dir: Annotated[str, typer.Option(help="Where the run goes; runs/<name of the recipe> where absent.")] = "",
    data_dir: Annotated[str, typer.Option(help="Where tokenizer and shards are, or are made.")] = "data",
    processes: Annotated[int, typer.Option(help="Ranks; one per GPU where absent, two on CPUs.")] = 0,
    retry: Annotated[
        bool, typer.Option("--retry", help="Start again after a failure, until three attempts made no progress.")
    ] = False,
    prepare_only: Annotated[bool, typer.Option("--prepare-only", help="Make data and run directory; don't train.")] = False,
) -> None:
    """Trains a recipe on this machine, all its stages, by the DeepSpeed launcher.

    Ctrl-C asks for a checkpoint and leaves with exit code 75; `windtunnel resume` goes on from there.

    Example: windtunnel train demo --processes 2 -o optim.peak_lr=0.02
    """
    import os

    from launch.local import default_processes, train_here
    from recipe.load import load_recipe
    from recipe.prepare import create_run

    config = load_recipe(recipe, override)
    parallel = config.parallel
    num_processes = processes or default_processes(parallel.tp * parallel.pp * parallel.cp)
    run = create_run(
        config, run_dir or f"runs/{config.name}", world_size=num_processes, data_dir=data_dir, workers=os.cpu_count() or 1
    )
    print(run.root)
    if not prepare_only:
        raise typer.Exit(train_here(run, num_processes=num_processes, retry=retry))
