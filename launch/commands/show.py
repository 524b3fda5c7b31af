"""`windtunnel show`: what would run."""

from typing import Annotated

import typer


def show(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset.")],
    as_: Annotated[str, typer.Option("--as", help="recipe, resolved, schedule, mup, megatron, deepspeed, sbatch")] = "resolved",
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    processes: Annotated[int, typer.Option(help="Ranks; the least that the layout takes where absent.")] = 0,
    cluster: Annotated[str, typer.Option(help="Site file or example (sbatch only).")] = "h100",
    nodes: Annotated[int, typer.Option(min=1, help="Nodes (sbatch only).")] = 1,
) -> None:
    """Prints what a recipe becomes: every number final, nothing started.

    Example: windtunnel show xmodel2-1.2b --as deepspeed --processes 64
    """
    import json

    from recipe.load import load_recipe
    from recipe.lower import deepspeed_config, mup_rows, schedule_rows, transformer_arguments
    from recipe.resolve import resolve

    config = load_recipe(recipe, override)
    parallel = config.parallel
    world_size = processes or parallel.tp * parallel.pp * parallel.cp
    if as_ == "sbatch":
        from pathlib import Path

        from launch.chain import submission_of

        submission = submission_of(
            config, cluster=cluster, settings={}, run_dir=Path(f"runs/{config.name}"), data_dir=Path("data"),
            num_nodes=nodes, min_nodes=None, decay_at=[], until="report",
        )
        for name, text in submission.files.items():
            typer.echo(f"==> {name} <==\n{text}")
        return
    views = {
        "recipe": lambda: config.model_dump(mode="json"),
        "resolved": lambda: resolve(config, world_size=world_size).model_dump(mode="json", exclude={"config"}),
        "schedule": lambda: schedule_rows(resolve(config, world_size=world_size)),
        "megatron": lambda: transformer_arguments(resolve(config, world_size=world_size)),
        "deepspeed": lambda: deepspeed_config(resolve(config, world_size=world_size)),
        "mup": lambda: mup_rows(resolve(config, world_size=world_size).config),
    }
    if as_ not in views:
        raise typer.BadParameter(f"{as_!r} is none of {', '.join([*views, 'sbatch'])}", param_hint="--as")
    typer.echo(json.dumps(views[as_](), indent=2))
