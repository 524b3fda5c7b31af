"""`windtunnel mix`: the mixture of a stage, from many short runs."""

from typing import Annotated

import typer


def mix(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset of the proxy model, with its stages.")],
    stage: Annotated[str, typer.Option(help="Stage whose mixture is searched; the last one where absent.")] = "",
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    weight: Annotated[
        list[str], typer.Option(help="source=weight, task:bits=weight or task:error=weight; all sources alike where absent.")
    ] = [],  # noqa: B006
    eval_data: Annotated[str, typer.Option(help="Folder with the tasks' data.")] = "eval-data",
    max_questions: Annotated[int, typer.Option(help="First questions of each task; 0: all.", min=0)] = 0,
    no_worse: Annotated[list[str], typer.Option(help="source=x: it may lose x nats per token against the recipe's mix.")] = [],  # noqa: B006
    target_tokens: Annotated[str, typer.Option(help="Length of the stage in the real run, such as 140B.")] = "",
    target_at_hand: Annotated[list[str], typer.Option(help="source=tokens that the real run has; else those here.")] = [],  # noqa: B006
    max_epochs: Annotated[float, typer.Option(help="Of any source, in the real run's stage.")] = 4.0,
    towards_prior: Annotated[float, typer.Option(help="Weight of KL(mix, recipe's mix) in the choice.")] = 0.0,
    shares: Annotated[int, typer.Option(help="Overall shares of instruction data to try.", min=3)] = 12,
    mixes: Annotated[int, typer.Option(help="Mixes of the categories; 4 (categories + 1) for 0.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="Of each arm (recipe's, proportional, uniform).", min=2)] = 4,
    confirm_width: Annotated[int, typer.Option(help="Confirm on a model so many times as wide; 0: don't.", min=0)] = 0,
    confirm_seeds: Annotated[int, typer.Option(help="Seeds of the confirming runs.", min=2)] = 3,
    workers: Annotated[int, typer.Option(help="Worker processes here, or tasks of the array.", min=1)] = 1,
    cluster: Annotated[str, typer.Option(help="Site file or name: workers as a SLURM array.")] = "",
    data_dir: Annotated[str, typer.Option(help="Where tokenizer and shards are, or are made.")] = "data",
    out: Annotated[str, typer.Option(help="The study's folder; runs/mix-<recipe> where absent.")] = "",
) -> None:
    """Searches the mixture of a stage: how much instruction data, how its categories share it, which mixes can't be told apart.

    From one stable checkpoint (trained first) many short decays; `--stage` with the first stage runs proxies from the start.
    The same command goes on with a study that was interrupted, however it was.

    Example: windtunnel mix demo --target-tokens 5M --confirm-width 2 --workers 2
    """
    import sys
    from pathlib import Path

    from launch.search.mix.check import spec_of
    from launch.search.mix.report import write_report
    from launch.search.mix.study import MixStudy
    from launch.search.setup import at_hand_tokens, carry_out
    from recipe.load import load_recipe

    config = load_recipe(recipe, override)
    spec = spec_of(
        config, stage=stage, weight=weight, no_worse=no_worse, target_tokens=target_tokens, target_at_hand=target_at_hand,
        max_epochs=max_epochs, towards_prior=towards_prior, shares=shares, mixes=mixes or None, seeds=seeds,
        confirm_width=confirm_width or None, confirm_seeds=confirm_seeds, eval_data=eval_data,
        max_questions=max_questions or None,
    )  # fmt: skip
    study, found = carry_out(
        Path(out or f"runs/mix-{config.name}"), config, spec,
        lambda study, run: MixStudy(spec, config, run, at_hand=at_hand_tokens(study)).conduct(),
        data_dir=data_dir, workers=workers, cluster=cluster, eval_data=eval_data,
    )  # fmt: skip
    typer.echo(write_report(study, found, command=["windtunnel", *sys.argv[1:]]))
