"""`windtunnel profile`: where a step's time goes."""

from typing import Annotated

import typer


def profile(
    run_or_recipe: Annotated[str, typer.Argument(help="Run directory (its layout), recipe file or preset.")],
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value, of a recipe; may be repeated.")] = [],  # noqa: B006
    steps: Annotated[int, typer.Option(min=1, help="Steps to record, after two that aren't.")] = 3,
    processes: Annotated[int, typer.Option(help="Ranks, of a recipe; one per GPU where absent, two on CPUs.")] = 0,
    data_dir: Annotated[str, typer.Option(help="Where tokenizer and shards are, or are made.")] = "data",
    out: Annotated[str, typer.Option(help="Folder for the traces; profile/<name> where absent.")] = "",
) -> None:
    """Writes a torch profiler trace of a few training steps, one file a rank, and prints the costliest operations.

    The steps are taken in a scratch directory from fresh weights: a run isn't touched.

    Example: windtunnel profile runs/demo --steps 5
    """
    import os
    import shutil
    import tempfile
    from pathlib import Path

    from launch.local import default_processes, train_here
    from recipe.load import load_recipe
    from recipe.prepare import create_run, load_resolved, write_run
    from recipe.rundir import RunDir

    with tempfile.TemporaryDirectory(prefix="windtunnel-profile-") as scratch:
        if (Path(run_or_recipe) / "config").is_dir():
            resolved, run = load_resolved(RunDir.existing(run_or_recipe)), RunDir(Path(scratch) / "run")
            write_run(run, resolved.model_copy(update={"branch": None}))
        else:
            config = load_recipe(run_or_recipe, override)
            parallel = config.parallel
            num_processes = processes or default_processes(parallel.tp * parallel.pp * parallel.cp)
            run = create_run(config, f"{scratch}/run", world_size=num_processes, data_dir=data_dir, workers=os.cpu_count() or 1)
            resolved = load_resolved(run)
        os.environ["WINDTUNNEL_PROFILE_STEPS"] = str(steps)
        code = train_here(run, num_processes=resolved.layout.world_size, module="recipe.profiled")
        if code == 0:
            folder = Path(out or f"profile/{resolved.config.name}")
            shutil.copytree(run.root / "profile", folder, dirs_exist_ok=True)
            typer.echo((folder / "operations.txt").read_text())
            typer.echo(f"traces: {folder}/rank_*.json")
    raise typer.Exit(code)
