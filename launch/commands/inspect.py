"""`windtunnel inspect`: what lies in shards."""

from typing import Annotated

import typer


def inspect(
    data: Annotated[str, typer.Argument(help="Data directory, source or split.")],
    samples: Annotated[int, typer.Option(help="Random documents to decode, a split.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the choice of samples.")] = 1,
    picture: Annotated[str, typer.Option(help="Also draw the table's histograms into this file (.png, .svg).")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Documents by source, a histogram of their lengths, tokens per byte, and random samples decoded.

    Example: windtunnel inspect data --picture lengths.png
    """
    import json

    from data_prep import inspect as inspection

    splits = inspection.inspect(data, num_samples=samples, seed=seed)
    if picture:
        inspection.draw(splits, picture)
    if as_json:
        print(json.dumps([split.as_dict() for split in splits], indent=2, ensure_ascii=False))
    else:
        inspection.show(splits)
