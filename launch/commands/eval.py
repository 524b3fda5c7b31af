"""`windtunnel eval`: what a checkpoint is worth."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from recipe.evaluate.run import Wanted
    from recipe.rundir import RunDir


def eval(
    run: Annotated[str, typer.Argument(help="Run directory, or the folder of an exported checkpoint.")],
    checkpoint: Annotated[str, typer.Option(help="Folder, or name below RUN/checkpoints; the last one.")] = "",
    tasks: Annotated[str, typer.Option(help="commonsense, reasoning, all, or names: arc_easy,gsm8k,humaneval,…")] = "",
    data: Annotated[str, typer.Option(help="Folder with the tasks' data sets.")] = "eval-data",
    limit: Annotated[int, typer.Option(help="Questions of each task, the first ones; 0: all.")] = 0,
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave out tasks without data.")] = False,
    agents: Annotated[str, typer.Option(help="ReAct agents: hotpotqa, fever, alfworld, webshop, all.")] = "",
    calibration: Annotated[bool, typer.Option("--calibration", help="Confidence against accuracy on MMLU (Figure 4).")] = False,
    by_index: Annotated[str, typer.Option(help="Loss by token index with a power law (Figure 5): a text file or source.")] = "",
    heldout: Annotated[bool, typer.Option(help="Loss by source on held-out documents.")] = True,
    baselines: Annotated[bool, typer.Option(help="Train unigram, bigram and trigram models on the tokens seen.")] = True,
    samples: Annotated[bool, typer.Option(help="Continue the beginnings of held-out documents.")] = True,
    processes: Annotated[int, typer.Option(help="Ranks; as many as the run's TP × PP where absent.")] = 0,
    pending: Annotated[bool, typer.Option("--pending", help="Every checkpoint that lacks a wanted result.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="As --pending, again and again until the run is finished.")] = False,
    submit: Annotated[bool, typer.Option("--submit", help="As a SLURM job beside the run, on the run's own site.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Show all results so far by tokens; evaluate nothing.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Held-out loss beside counting models, the report's tasks, calibration and loss by token index.

    A run is evaluated in the layout that it trains in; an exported checkpoint by plain transformers. Nothing is downloaded:
    for a task without data the message says how to get it.

    Example: windtunnel eval runs/demo --tasks humaneval --limit 10
    """
    import json
    from pathlib import Path

    from recipe.evaluate.agents.run import agent_names
    from recipe.evaluate.checkpoints import find_checkpoint
    from recipe.evaluate.run import Wanted, evaluate_export
    from recipe.evaluate.suite import task_names
    from recipe.evaluate.table import all_results, show
    from recipe.rundir import RunDir

    wanted = Wanted(
        heldout=heldout, baselines=baselines, samples=samples, tasks=tuple(task_names(tasks)), data=data, limit=limit or None,
        skip_missing=skip_missing, agents=tuple(agent_names(agents)), calibration=calibration, by_index=by_index,
    )
    if (Path(run) / "config.json").is_file():
        results = [evaluate_export(Path(run), wanted)]
    else:
        found = RunDir.existing(run)
        if submit:
            typer.echo(_submit(found))
            return
        if table:
            results = all_results(found)
        elif pending or follow:
            results = _pending(found, wanted, processes=processes, follow=follow)
        else:
            results = [_evaluate(found, find_checkpoint(found, checkpoint), wanted, processes=processes)]
    if json_:
        typer.echo(json.dumps(results if table or pending or follow else results[0], indent=2))
    else:
        show(results)


def _submit(run: "RunDir") -> str:
    """This very command line, without --submit, as a job; returns its id."""
    import sys

    from launch.slurm.beside import submit_beside

    return submit_beside(run, [word for word in sys.argv[1:] if word != "--submit"])


def _evaluate(run: "RunDir", checkpoint: "Path", wanted: "Wanted", *, processes: int) -> dict[str, Any]:
    """Here where one process is enough, else on as many ranks as the layout takes."""
    import json
    from dataclasses import asdict

    from launch.ranks import run_ranks
    from recipe.evaluate.run import evaluate_checkpoint
    from recipe.prepare import load_resolved

    parallel = load_resolved(run).config.parallel
    num_processes = processes or parallel.tp * parallel.pp
    if num_processes == 1:
        return evaluate_checkpoint(run, checkpoint, wanted)
    arguments = [str(run.root.absolute()), str(checkpoint.absolute()), json.dumps(asdict(wanted))]
    return json.loads(run_ranks("recipe.evaluate.program", arguments, num_processes=num_processes))


def _pending(run: "RunDir", wanted: "Wanted", *, processes: int, follow: bool) -> list[dict[str, Any]]:
    """What is lacking of each checkpoint, oldest first; with `follow`, until the run has taken its last step."""
    import time

    from recipe.evaluate.pending import POLL_S, is_finished, pending_checkpoints

    results = []
    while True:
        finished = is_finished(run)  # before the look around: what it wrote last must be seen
        for checkpoint, lacking in pending_checkpoints(run, wanted):
            typer.echo(f"evaluating {checkpoint.name}", err=True)
            results.append(_evaluate(run, checkpoint, lacking, processes=processes))
        if finished or not follow:
            return results
        time.sleep(POLL_S)
