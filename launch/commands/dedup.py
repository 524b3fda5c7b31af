"""`windtunnel dedup`: duplicates within and across sources."""

from typing import Annotated

import typer


def dedup(
    inputs: Annotated[list[str], typer.Argument(help="A recipe or preset, or files and folders (each a source).")],
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value of the recipe.")] = [],  # noqa: B006
    data_dir: Annotated[str, typer.Option(help="Drop lists, report and scratch go here.")] = "data",
    method: Annotated[str, typer.Option(help="minhash (verified), simhash (the report's rounds), or exact.")] = "minhash",
    similarity: Annotated[float, typer.Option(help="Least Jaccard similarity of 5-grams (minhash).")] = 0.8,
    prefer: Annotated[list[str], typer.Option(help="Source whose documents are kept first; may be repeated.")] = [],  # noqa: B006
    bits: Annotated[int, typer.Option(help="Most differing bits (simhash).")] = 3,
    rounds: Annotated[int, typer.Option(help="Rounds of buckets of a million (simhash).")] = 3,
    workers: Annotated[int, typer.Option(help="Processes; all cores where absent.")] = 0,
    memory: Annotated[str, typer.Option(help="What sorting may hold, all workers together.")] = "1GiB",
    kind: Annotated[
        str, typer.Option(help="Kind of the paths: jsonl, parquet, text, directory, sft; by suffix where absent.")
    ] = "",
    field: Annotated[str, typer.Option(help="Key or column of the text, for paths.")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The report, for programs.")] = False,
) -> None:
    """Finds exact and near duplicates, lists what goes and why, and has `tokenize` leave it out.

    Example: windtunnel dedup demo --workers 2 --prefer docs
    """
    import json

    from data_prep.binarize import default_workers
    from data_prep.dedup.run import Settings, deduplicate
    from launch.sources import command_line_sources
    from recipe.units import parse_bytes

    specs = command_line_sources(inputs, override, kind=kind, field=field)
    settings = Settings(method=method, similarity=similarity, simhash_bits=bits, simhash_rounds=rounds, prefer=tuple(prefer))
    outcome = deduplicate(
        specs, data_dir=data_dir, settings=settings, workers=workers or default_workers(), memory_bytes=parse_bytes(memory)
    )
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False, indent=2))
    else:
        _show(outcome)


def _show(outcome: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"duplicates ({outcome['settings']['method']})")
    heads = ("source", "documents", "exact within", "exact across", "near within", "near across", "kept", "5-grams dropped")
    for head in heads:
        table.add_column(head, justify="left" if head == "source" else "right")
    whys = ("exact_within", "exact_across", "near_within", "near_across")
    for name, counts in outcome["sources"].items():
        kept = counts["documents"] - sum(counts[why] for why in whys)
        frac = counts["grams_dropped"] / max(counts["grams"], 1)
        table.add_row(name, *(f"{n:,}" for n in (counts["documents"], *(counts[why] for why in whys), kept)), f"{frac:.2%}")
    console = Console()
    console.print(table)
    for group in outcome["largest_groups"][:5]:
        console.print(f"{group['documents']:,} alike, kept: {group['kept']}", markup=False)
    console.print(f"all that goes, and why: {outcome['dropped']}", markup=False, soft_wrap=True)
