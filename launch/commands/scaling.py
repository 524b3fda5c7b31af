"""`windtunnel scaling`: loss over parameters and tokens."""

from typing import Annotated

import typer


def scaling(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset of the smallest model; its last stage is the decay.")],
    tokens: Annotated[str, typer.Option(help="Stable tokens after which decays branch off, such as 40K,80K,160K.")],
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    widths: Annotated[str, typer.Option(help="Factors on the recipe's width.")] = "1,2,3",
    held_out: Annotated[int, typer.Option(help="Factor of the larger model that checks the law.", min=2)] = 4,
    seeds: Annotated[int, typer.Option(help="Seeds that show the noise of a run.", min=2)] = 2,
    workers: Annotated[int, typer.Option(help="Worker processes here, or tasks of the array.", min=1)] = 1,
    cluster: Annotated[str, typer.Option(help="Site file or name: workers as a SLURM array.")] = "",
    data_dir: Annotated[str, typer.Option(help="Where tokenizer and shards are, or are made.")] = "data",
    out: Annotated[str, typer.Option(help="The study's folder; runs/scaling-<recipe> where absent.")] = "",
) -> None:
    """Fits the loss over parameters and tokens through decays of one stable run a size, and checks it on a larger run.

    Batch size against loss is a sweep: windtunnel sweep demo --search global_tokens=8192,16384,32768 --method grid

    Example: windtunnel scaling demo --tokens 400K,800K,1600K --workers 2
    """
    import sys
    from pathlib import Path

    from launch.search.scaling.report import write_report
    from launch.search.scaling.study import ScalingSpec, ScalingStudy
    from launch.search.setup import carry_out
    from recipe.load import load_recipe, validate
    from recipe.units import parse_tokens

    config = load_recipe(recipe, override)
    content = {
        "widths": widths.split(","), "tokens": [parse_tokens(text) for text in tokens.split(",")], "held_out": held_out,
        "seeds": seeds,
    }  # fmt: skip
    spec = validate(ScalingSpec, content, where="scaling")
    ScalingStudy(spec, config, lambda trials: [])  # refuses what can't hold, before a folder is made
    study, found = carry_out(
        Path(out or f"runs/scaling-{config.name}"), config, spec, lambda _, run: ScalingStudy(spec, config, run).conduct(),
        data_dir=data_dir, workers=workers, cluster=cluster,
    )  # fmt: skip
    typer.echo(write_report(study, found, command=["windtunnel", *sys.argv[1:]]))
