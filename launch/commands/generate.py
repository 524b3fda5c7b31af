"""`windtunnel generate` and `windtunnel chat`: a checkpoint speaks in the terminal."""

from typing import Annotated

import typer


def generate(
    run: Annotated[str, typer.Argument(help="Run directory.")],
    prompt: Annotated[str, typer.Option(help="Text to go on from; read from standard input where absent.")] = "",
    checkpoint: Annotated[str, typer.Option(help="Folder, or name below RUN/checkpoints; the last one.")] = "",
    tokens: Annotated[int, typer.Option(help="Most tokens to add.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.8,
    top_p: Annotated[float, typer.Option(help="Share of probability that is drawn from.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
    chat: Annotated[bool, typer.Option("--chat", help="Converse, by the chat template of the run's instruction data.")] = False,
) -> None:
    """Continues a text, or converses, with a checkpoint of a run.

    Example: windtunnel generate runs/demo --prompt "def fibonacci(n):"
    """
    import sys

    from recipe.evaluate.checkpoints import find_checkpoint
    from recipe.evaluate.speak import Speaker, converse
    from recipe.rundir import RunDir

    found = RunDir.existing(run)
    speaker = Speaker.of(
        found, find_checkpoint(found, checkpoint), max_new_tokens=tokens, temperature=temperature, top_p=top_p, seed=seed
    )
    if chat:
        converse(speaker)
        return
    text = prompt or sys.stdin.read()
    typer.echo(text, nl=False)
    for piece in speaker.say(text):
        typer.echo(piece, nl=False)
    typer.echo()
