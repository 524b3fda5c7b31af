"""`windtunnel contamination`: documents that share 13-grams with evaluation sets."""

from typing import Annotated

import typer


def contamination(
    inputs: Annotated[list[str], typer.Argument(help="A recipe or preset, or files and folders (each a source).")],
    against: Annotated[list[str], typer.Option(help="Evaluation sets: JSONL or Parquet files or folders; may be repeated.")],
    eval_field: Annotated[list[str], typer.Option(help="Keys of evaluation items that count; all texts where absent.")] = [],  # noqa: B006
    drop: Annotated[bool, typer.Option("--drop", help="Have `tokenize` leave these documents out.")] = False,
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value of the recipe.")] = [],  # noqa: B006
    data_dir: Annotated[str, typer.Option(help="The list, and drop lists, go here.")] = "data",
    workers: Annotated[int, typer.Option(help="Processes; all cores where absent.")] = 0,
    kind: Annotated[
        str, typer.Option(help="Kind of the paths: jsonl, parquet, text, directory, sft; by suffix where absent.")
    ] = "",
    field: Annotated[str, typer.Option(help="Key or column of the text, for paths.")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The report, for programs.")] = False,
) -> None:
    """Lists training documents that share 13-grams with evaluation sets, prompt and answer both, before rendering.

    Example: windtunnel contamination demo --against evals/ --drop
    """
    import json

    from data_prep.binarize import default_workers
    from data_prep.contamination import contamination as find
    from launch.sources import command_line_sources

    specs = command_line_sources(inputs, override, kind=kind, field=field)
    outcome = find(
        specs, against=against, data_dir=data_dir, fields=eval_field, drop=drop, workers=workers or default_workers()
    )
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False, indent=2))
    else:
        _show(outcome)


def _show(outcome: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title="evaluation sets in the training data")
    for head in ("evaluation set", "items", "items found", "documents"):
        table.add_column(head, justify="left" if head == "evaluation set" else "right")
    for name, counts in outcome["benchmarks"].items():
        table.add_row(name, *(f"{counts[key]:,}" for key in ("items", "items_hit", "documents")))
    console.print(table)
    for name, counts in outcome["sources"].items():
        what = "dropped" if outcome["dropped"] else "listed, none dropped"
        console.print(f"{name}: {counts['hit']:,} of {counts['documents']:,} documents {what}", markup=False)
    console.print(f"all hits: {outcome['hits']}", markup=False, soft_wrap=True)
