"""`windtunnel import`: a foreign checkpoint becomes a run's beginning."""

from typing import Annotated

import typer


def import_(
    checkpoint: Annotated[str, typer.Argument(help="Folder with config.json and safetensors (Llama-like or MiniCPM-like).")],
    recipe: Annotated[str, typer.Option(help="Recipe file or preset that trains on.")],
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    run_dir: Annotated[str, typer.Option(help="Where the run goes; runs/<name of the recipe> where absent.")] = "",
    data_dir: Annotated[str, typer.Option(help="Where tokenizer and shards are, or are made.")] = "data",
    processes: Annotated[int, typer.Option(help="Ranks that will train; one per GPU where absent, two on CPUs.")] = 0,
    adopt: Annotated[bool, typer.Option("--adopt", help="Take model, multipliers and tokenizer from the checkpoint.")] = False,
) -> None:
    """Makes a run that trains on from a Hugging Face checkpoint, in any layout; `windtunnel resume` then trains it.

    Refused, with names: another architecture, missing, left-over or damaged tensors, another shape or tokenizer than the
    recipe's (unless --adopt says to take the checkpoint's).

    Example: windtunnel import runs/demo/export/minicpm --recipe demo --run-dir runs/more
    """
    import os
    from pathlib import Path

    from launch.local import default_processes
    from recipe.export.from_hf import open_huggingface
    from recipe.export.import_hf import adopt as adopted
    from recipe.export.import_hf import check_fits, check_tensors, check_tokenizer, differences, write_imported
    from recipe.load import load_recipe
    from recipe.prepare import create_run
    from recipe.resolve import resolve

    config = load_recipe(recipe, override)
    reader = open_huggingface(Path(checkpoint))
    if adopt:
        for key, (ours, theirs) in differences(config, reader).items():
            typer.echo(f"{key}: {ours} → {theirs}, from the checkpoint", err=True)
        config = adopted(config, reader)
    check_fits(config, reader)
    check_tokenizer(config, reader.folder, data_dir=data_dir)
    check_tensors(reader)
    parallel = config.parallel
    num_processes = processes or default_processes(parallel.tp * parallel.pp * parallel.cp)
    resolve(config, world_size=num_processes)  # before any data is made
    run = create_run(
        config, run_dir or f"runs/{config.name}", world_size=num_processes, data_dir=data_dir, workers=os.cpu_count() or 1
    )
    typer.echo(write_imported(reader, run))
    typer.echo(f"train on with: windtunnel resume {run.root}", err=True)
