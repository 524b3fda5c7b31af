"""`windtunnel stages`: what each stage wants of each source, and what there is."""

from typing import Annotated

import typer


def stages(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset.")],
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    data_dir: Annotated[str, typer.Option(help="Where the shards are.")] = "data",
    as_json: Annotated[bool, typer.Option("--json", help="The rows as JSON on stdout.")] = False,
) -> None:
    """Shows tokens wanted, tokens at hand and epochs, by stage and source. Shards that aren't there yet show as unknown.

    Example: windtunnel stages demo
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from recipe.demand import demand
    from recipe.load import load_recipe
    from recipe.units import format_count

    rows = demand(load_recipe(recipe, override), data_dir=data_dir)
    if as_json:
        typer.echo(json.dumps([vars(row) for row in rows], indent=2))
        return
    table = Table("stage", "source", "%", "tokens wanted", "at hand", "epochs, this stage", "epochs, by its end", box=None)
    for row in rows:
        known = row.at_hand_tokens is not None
        table.add_row(
            row.stage, row.source, f"{row.percent:g}", format_count(row.wanted_tokens),
            format_count(row.at_hand_tokens or 0) if known else "?",
            f"{row.epochs:.2f}" if known else "?", f"{row.epochs_so_far:.2f}" if known else "?",
        )
    Console(width=None if Console().is_terminal else 120).print(table)
