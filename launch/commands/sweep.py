"""`windtunnel sweep`: hyperparameters, searched on a small model."""

from typing import Annotated

import typer


def sweep(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset of the small model.")],
    search: Annotated[
        list[str], typer.Option("--search", help="key=low:high[:log][:step=x] or key=a,b,c; Table 5's four keys where absent.")
    ] = [],  # noqa: B006
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    trials: Annotated[int, typer.Option(help="Points to try; repeats come on top.", min=1)] = 64,
    method: Annotated[str, typer.Option(help="tpe, random or grid.")] = "tpe",
    seeds: Annotated[int, typer.Option(help="Seeds of anchors and finalists.", min=2)] = 4,
    finalists: Annotated[int, typer.Option(help="Best points that get fresh seeds.", min=1)] = 6,
    prune: Annotated[
        float, typer.Option(help="Begin trials with a complete run of this share of the tokens; end bad ones there. 0: don't.")
    ] = 0.0,
    weight: Annotated[
        list[str], typer.Option(help="source=weight, task:bits=weight or task:error=weight; all sources alike where absent.")
    ] = [],  # noqa: B006
    eval_data: Annotated[str, typer.Option(help="Folder with the tasks' data.")] = "eval-data",
    max_questions: Annotated[int, typer.Option(help="First questions of each task; 0: all.", min=0)] = 0,
    confirm_width: Annotated[int, typer.Option(help="Confirm the choice on a model so many times as wide; 0: don't.")] = 0,
    confirm_seeds: Annotated[int, typer.Option(help="Seeds of the confirming runs.", min=2)] = 3,
    workers: Annotated[int, typer.Option(help="Worker processes here, or tasks of the array.", min=1)] = 1,
    cluster: Annotated[str, typer.Option(help="Site file or name: workers as a SLURM array.")] = "",
    data_dir: Annotated[str, typer.Option(help="Where tokenizer and shards are, or are made.")] = "data",
    out: Annotated[str, typer.Option(help="The study's folder; runs/sweep-<recipe> where absent.")] = "",
) -> None:
    """Searches hyperparameters on a small model: four panels, importance, interactions, the stable region, a proposed fragment.

    The same command goes on with a study that was interrupted, however it was.

    Example: windtunnel sweep demo --trials 64 --workers 2 --confirm-width 4
    """
    import sys
    from pathlib import Path

    from launch.search.setup import carry_out
    from launch.search.sweep.check import spec_of
    from launch.search.sweep.report import write_report
    from launch.search.sweep.study import Sweep
    from recipe.load import load_recipe

    config = load_recipe(recipe, override)
    spec = spec_of(
        recipe, override, config, search=search, method=method, trials=trials, seeds=seeds, finalists=finalists,
        prune_frac=prune or None, weight=weight, eval_data=eval_data, max_questions=max_questions or None,
        confirm_width=confirm_width or None, confirm_seeds=confirm_seeds,
    )  # fmt: skip
    study, found = carry_out(
        Path(out or f"runs/sweep-{config.name}"), config, spec, lambda _, run: Sweep(spec, config, run).conduct(),
        data_dir=data_dir, workers=workers, cluster=cluster, eval_data=eval_data,
    )  # fmt: skip
    typer.echo(write_report(study, found, command=["windtunnel", *sys.argv[1:]]))
