"""`windtunnel export`: a checkpoint for others."""

from typing import Annotated

import typer


def export(
    run: Annotated[str, typer.Argument(help="Run directory.")],
    format: Annotated[str, typer.Option(help="hf: plain Llama; minicpm: multipliers kept; megatron: torch_dist.")] = "hf",
    checkpoint: Annotated[str, typer.Option(help="Folder, or name below RUN/checkpoints; the last one.")] = "",
    out: Annotated[str, typer.Option(help="Folder to write; RUN/export/<format>.")] = "",
    dtype: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    shard: Annotated[str, typer.Option(help="Largest file.")] = "4GiB",
    check: Annotated[bool, typer.Option(help="Compare logits with the trained model's (two models' memory).")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print what was written and how the check came out as JSON.")] = False,
) -> None:
    """Writes a checkpoint that plain transformers loads, and checks that it computes what was trained.

    Example: windtunnel export runs/demo --dtype bf16
    """
    import json
    from pathlib import Path

    from recipe.evaluate.checkpoints import find_checkpoint
    from recipe.export.formats import export_checkpoint
    from recipe.rundir import RunDir
    from recipe.units import parse_bytes

    found = RunDir.existing(run)
    done = export_checkpoint(
        find_checkpoint(found, checkpoint), found, Path(out) if out else found.export / format,
        format=format, dtype=dtype, max_shard_bytes=parse_bytes(shard), overwrite=overwrite, check=check,
    )
    typer.echo(json.dumps(done.as_dict(), indent=2) if json_ else done.describe())
