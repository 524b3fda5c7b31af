"""`windtunnel stages`: what each stage wants of each source, what there is, what a run has drawn."""

from typing import Annotated

import typer


def stages(
    recipe: Annotated[str, typer.Argument(help="Recipe file, preset or run directory.")],
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    data_dir: Annotated[str, typer.Option(help="Where the shards are.")] = "data",
    rings: Annotated[str, typer.Option(help="Write the stages as rings to this PNG.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The rows as JSON on stdout.")] = False,
) -> None:
    """Shows tokens wanted and at hand, documents and epochs, by stage and source; of a run also what its ledger has drawn.

    Shards that aren't there yet show as unknown.

    Example: windtunnel stages demo --rings stages.png
    """
    import json
    from pathlib import Path

    from rich.console import Console

    from launch.search.pictures import save
    from launch.search.rings import ledger, table
    from launch.search.rings import rings as draw
    from recipe.demand import at_hand_of_recipe, at_hand_of_run, demand
    from recipe.load import load_recipe
    from recipe.rundir import RunDir

    run = RunDir(Path(recipe))
    is_run = run.resolved.is_file()
    config = load_recipe(str(run.recipe) if is_run else recipe, override)
    rows = demand(config, at_hand=at_hand_of_run(run) if is_run else at_hand_of_recipe(config, data_dir=data_dir))
    at, drawn = ledger(run) if is_run else ("", {})
    if rings:
        save(draw(rows, sft={name for name, source in config.sources.items() if source.category}), Path(rings))
    if as_json:
        extra = [{"drawn_tokens": drawn.get(row.source, 0)} if is_run else {} for row in rows]
        typer.echo(json.dumps([vars(row) | more for row, more in zip(rows, extra)], indent=2))
        return
    notes = [f"{stage.name}: {note}" for stage in config.stages if (note := config.length_note(stage.name))]
    Console(width=None if Console().is_terminal else 140).print(
        table(rows, drawn=drawn if is_run else None, at=at, notes=notes)
    )
