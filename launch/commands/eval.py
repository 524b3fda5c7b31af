"""`windtunnel eval`: what a checkpoint is worth."""

from typing import Annotated

import typer


def eval(
    run: Annotated[str, typer.Argument(help="Run directory.")],
    checkpoint: Annotated[str, typer.Option(help="Folder, or name below RUN/checkpoints; the last one.")] = "",
    baselines: Annotated[bool, typer.Option(help="Train unigram, bigram and trigram models on the tokens seen.")] = True,
    samples: Annotated[bool, typer.Option(help="Continue the beginnings of held-out documents.")] = True,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Held-out loss and bits per byte by source, beside counting models of the very tokens that were seen.

    Example: windtunnel eval runs/demo --json
    """
    import json

    from recipe.evaluate.checkpoints import find_checkpoint
    from recipe.evaluate.run import evaluate_checkpoint
    from recipe.evaluate.table import heldout_table
    from recipe.rundir import RunDir

    found = RunDir.existing(run)
    result = evaluate_checkpoint(found, find_checkpoint(found, checkpoint), baselines=baselines, samples=samples)
    if json_:
        typer.echo(json.dumps(result, indent=2))
    else:
        heldout_table(result)
