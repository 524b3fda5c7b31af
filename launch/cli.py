"""`windtunnel`: the commands in the order of the work. A command's module is imported when it runs, so help is quick.

Exit codes: 0 done, 1 a check failed, 2 bad input, 75 told to leave with a checkpoint.
"""

import keyword
import logging
import sys
from importlib import import_module

import typer

from launch.errors import exit_code_of

# (panel, command, what it does): the help page is this table; the rest of a command lies in launch/commands/<command>.py
COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("Look", "doctor", "What works here, and what stands in for what is missing."),
    ("Look", "show", "What a recipe becomes: resolved, Megatron's, DeepSpeed's or SLURM's words."),
    ("Look", "patches", "Every difference from upstream, checked against the installed version."),
    ("Data", "tokenizer", "Train the recipe's SentencePiece Unigram model."),
    ("Data", "tokenize", "Corpora to shards; does only what is missing."),
    ("Data", "verify", "Re-read shards independently of the writer."),
    ("Data", "inspect", "Lengths, tokens per byte and samples of shards."),
    ("Data", "dedup", "Find duplicates within and across sources."),
    ("Data", "contamination", "Find documents that share 13-grams with evaluation sets."),
    ("Decide", "plan", "Legal layouts ranked: memory by term, step time, days, cost."),
    ("Decide", "tune", "Short timed runs of the best few layouts."),
    ("Decide", "coord-check", "muP's coordinate check, with a verdict."),
    ("Decide", "sweep", "Search hyperparameters on a small model."),
    ("Decide", "mix", "Search the mixture of a stage."),
    ("Decide", "scaling", "Fit the loss over parameters and tokens."),
    ("Decide", "worker", "Serve trials of a study (what --cluster submits)."),
    ("Decide", "stages", "Tokens wanted and at hand, by stage and source."),
    ("Train", "train", "Run a recipe here."),
    ("Train", "resume", "Go on with a run."),
    ("Train", "import", "Make a run that trains on from a foreign checkpoint."),
    ("Train", "decay", "Branch a decay from a stable checkpoint."),
    ("Train", "profile", "A torch profiler trace of a few steps."),
    ("Train", "audit", "Measure rates and deviations of a run against the muP table."),
    ("Cluster", "submit", "Submit the whole chain to SLURM."),
    ("Cluster", "status", "How runs stand, here or in the queue."),
    ("Cluster", "logs", "The logs of a run's newest attempt."),
    ("Cluster", "cancel", "Ask a run to checkpoint and leave."),
    ("Publish", "eval", "Evaluate a checkpoint."),
    ("Publish", "export", "Write a checkpoint that plain transformers loads."),
    ("Publish", "report", "One HTML page of one or several runs."),
    ("Publish", "generate", "Continue a text in the terminal."),
)

def build() -> typer.Typer:
    """The application; command modules import nothing heavy at their top, so this is quick."""
    app = typer.Typer(
        add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
        help="Tune small, train large: a pretraining recipe for language models on SLURM clusters.",
    )
    for panel, name, summary in COMMANDS:
        function = function_of(name)
        command = getattr(import_module(f"launch.commands.{function}"), function)
        app.command(name, rich_help_panel=panel, short_help=summary)(command)
    return app


def function_of(command: str) -> str:
    """Name of a command's module and function: `coord-check` → coord_check, `import` → import_."""
    return command.replace("-", "_") + ("_" if keyword.iskeyword(command) else "")


def main(arguments: list[str] | None = None) -> None:
    """The entry point: typed errors become one message on stderr and exit code 2 (1 for a failed check)."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        build()(args=arguments, prog_name="windtunnel")
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        print(f"windtunnel: {error}", file=sys.stderr)
        raise SystemExit(code) from None


if __name__ == "__main__":
    main()
