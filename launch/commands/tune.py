"""`windtunnel tune`: the plan's best layouts, really run."""

from typing import Annotated

import typer


def tune(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset.")],
    top: Annotated[int, typer.Option(help="Layouts to run.", min=1)] = 6,
    budget: Annotated[str, typer.Option(help="Time for all runs together.")] = "30m",
    processes: Annotated[int, typer.Option(help="Ranks; one per GPU where absent, two on CPUs.")] = 0,
    gpu: Annotated[str, typer.Option(help="The device here, as for plan; needed where there are GPUs.")] = "",
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    micro_batch: Annotated[bool, typer.Option("--micro-batch", help="Keep the recipe's layout; tune its micro batch.")] = False,
    steps: Annotated[int, typer.Option(help="Measured steps of each run.", min=1)] = 4,
    warmup: Annotated[int, typer.Option(help="Steps before them, discarded.", min=0)] = 2,
    data_dir: Annotated[str, typer.Option(help="Where tokenizer and shards are, or are made.")] = "data",
    out: Annotated[str, typer.Option(help="A new folder; runs/tune-<name of the recipe> where absent.")] = "",
    calibration: Annotated[str, typer.Option(help="A calibration saved before.")] = "",
    cluster: Annotated[str, typer.Option(help="Site file: trials as an array of SLURM jobs, one node each.")] = "",
    collect: Annotated[str, typer.Option(help="Folder of such an array: its results so far, as one answer.")] = "",
    only: Annotated[int, typer.Option(help="One candidate, by its place from 0 (an array's task runs this).")] = -1,
    json_: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Runs the best candidates of the plan for a few steps each: predicted against measured, winner, calibration.

    Here, or with --cluster as an array of jobs, whose results `--collect FOLDER` puts together.

    Example: windtunnel tune demo --top 6 --budget 30m
    """
    import json
    import os
    import shlex
    import shutil
    from pathlib import Path

    from launch.cluster import load_site
    from launch.local import default_processes, num_devices
    from launch.plan.answer import default_calibration, device_of_site, problem_of
    from launch.plan.calibration import Calibration
    from launch.plan.errors import PlanError
    from launch.tune.array import collect as collect_trials
    from launch.tune.array import submit_trials
    from launch.tune.loop import Settings, candidates, refusal
    from launch.tune.loop import tune as run_tune
    from launch.tune.show import print_table, write
    from launch.tune.verdict import Rule
    from recipe.data import prepare
    from recipe.load import load_recipe
    from recipe.units import parse_seconds

    config = load_recipe(recipe, override)
    site = load_site(cluster) if cluster else None
    if num_devices() and not (gpu or site):
        raise PlanError("--gpu: say which GPU this machine has, as `windtunnel plan --gpu` names it")
    folder = Path(collect or out or f"runs/tune-{config.name}")
    if folder.exists() and not (collect or site):
        if only < 0 or (folder / "tune.json").exists():
            raise PlanError(f"{folder}: is there already; choose another --out, or remove it")
        shutil.rmtree(folder / "trials", ignore_errors=True)  # of an array's task that was killed
    model = config.parallel.tp * config.parallel.pp * config.parallel.cp if micro_batch else 1
    num_processes = processes or (site.processes_per_node if site else default_processes(model))
    device = device_of_site(cluster, num_gpus=num_processes, gpu=gpu) if site else gpu or "cpu-node"
    problem = problem_of(config, gpu=device, num_gpus=num_processes, engine="windtunnel")
    known = Calibration.load(Path(calibration)) if calibration else default_calibration()
    rule = Rule(warmup_steps=warmup, num_steps=steps)
    settings = Settings(
        out=folder, data_dir=Path(data_dir), top=top, budget_s=parse_seconds(budget), only_micro=micro_batch, rule=rule,
        only=only if only >= 0 else None,
    )  # fmt: skip
    if not collect:
        prepare(config, data_dir=data_dir, workers=os.cpu_count() or 1)  # not in anybody's budget
    if site and not collect:
        ranked = candidates(problem, known, config, top=top, only_micro=micro_batch)
        count = min(top, sum(not refusal(config, one, num_processes=num_processes) for one in ranked))
        alike = [  # of the tasks, and of what puts them together
            recipe, "--processes", str(num_processes), "--gpu", gpu or site.gpu or problem.cluster.hardware.name,
            *(word for one in override for word in ("-o", one)), *(["--micro-batch"] if micro_batch else []),
            *(["--calibration", calibration] if calibration else []), "--steps", str(steps), "--warmup", str(warmup),
        ]  # fmt: skip
        asked = [*alike, "--top", str(top), "--budget", budget, "--data-dir", str(Path(data_dir).absolute())]
        tasks = submit_trials(folder, asked, num_trials=count, site=site, data_dir=Path(data_dir))
        then = shlex.join(["windtunnel", "tune", *alike, "--cluster", cluster, "--collect", str(folder)])
        print(f"{folder}: {len(tasks)} trials submitted; then: {then}")
        raise typer.Exit(0)
    answer = collect_trials(folder, problem, known) if collect else run_tune(problem, known, config, settings=settings)
    content = write(answer, problem, config, rule=rule, recipe=recipe, override=override, out=folder)
    print(json.dumps(content)) if json_ else print_table(content, out=folder)
    raise typer.Exit(0 if answer.best or only >= 0 else 1)
