"""`windtunnel plan`: which layout, before a GPU hour is spent."""

from typing import Annotated

import typer


def plan(
    recipe: Annotated[str, typer.Argument(help="Recipe file or preset.")],
    gpus: Annotated[int, typer.Option(help="Devices to plan for.")] = 8,
    gpu: Annotated[str, typer.Option(help="A name of launch/plan/hardware, or a YAML file; h100-sxm where absent.")] = "",
    cluster: Annotated[str, typer.Option(help="A site file or example: its device and GPUs per node.")] = "",
    override: Annotated[list[str], typer.Option("--override", "-o", help="key.path=value; may be repeated.")] = [],  # noqa: B006
    layout: Annotated[str, typer.Option(help="Price exactly this layout: tp=8,pp=2,mbs=1,zero=1,recompute=full.")] = "",
    engine: Annotated[str, typer.Option(help="Whose habits to assume.")] = "windtunnel",
    calibration: Annotated[str, typer.Option(help="A calibration saved by tune.")] = "",
    price: Annotated[float, typer.Option(help="Of one GPU hour.", min=0)] = 0.0,
    kwh_price: Annotated[float, typer.Option(help="Of one kilowatt-hour.", min=0)] = 0.0,
    top: Annotated[int, typer.Option(help="Layouts to list.", min=1)] = 10,
    trace: Annotated[bool, typer.Option("--trace", help="Also step one rank of the real program on fake tensors.")] = False,
    scaling: Annotated[bool, typer.Option("--scaling", help="Also draw throughput against numbers of GPUs.")] = False,
    out: Annotated[str, typer.Option(help="Folder for plan.json and pictures (SVG): memory, throughput, pipeline.")] = "",
    json_: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Ranks the layouts that a model can train in: memory by term, step time, days, and why the neighbours lost.

    Example: windtunnel plan xmodel2-1.2b --cluster h100 --gpus 64
    """
    import json
    from pathlib import Path

    from launch.plan.answer import candidate_json, default_calibration, device_of_site, parse_layout, plan_json, problem_of
    from launch.plan.calibration import Calibration
    from launch.plan.errors import PlanError
    from launch.plan.recipe import Prices
    from launch.plan.search import price as price_layouts
    from launch.plan.search import search
    from launch.plan.tables import print_candidate, print_plan
    from launch.plan.terminal import print_pictures
    from recipe.load import load_recipe

    config = load_recipe(recipe, override)
    device = device_of_site(cluster, num_gpus=gpus, gpu=gpu) if cluster else gpu or "h100-sxm"
    problem = problem_of(config, gpu=device, num_gpus=gpus, engine=engine)
    known = Calibration.load(Path(calibration)) if calibration else default_calibration()
    if out and (layout or trace):
        raise PlanError("--out draws a whole plan: leave out --layout and --trace")
    if layout or trace:
        parallel = config.parallel
        defaults = {"mbs": config.batch.micro_seqs, "zero": parallel.zero, "recompute": parallel.recompute}
        if not layout:
            defaults |= {key: getattr(parallel, key) for key in ("tp", "pp", "vp", "cp", "sp")}
        one = parse_layout(layout, defaults=defaults, num_gpus=gpus, global_seqs=problem.global_seqs)
        candidate = price_layouts(problem, one, known)[0]
        answer = candidate_json(candidate, problem)
        if trace:
            answer["trace"] = _traced(recipe, override, one.row(0), gpus, stage=candidate.peak_stage)
        print(json.dumps(answer)) if json_ else print_candidate(answer)
        return
    found = search(problem, known, top=top)
    answer = plan_json(found, config, recipe=recipe, calibration=known, prices=Prices(price, kwh_price), site=cluster or "SITE")
    if out:
        from launch.plan.pictures import save

        answer = save(answer, found, known, out=Path(out))
    if json_:
        print(json.dumps(answer))
    else:
        print_plan(answer)
        print_pictures(found, known, scaling=scaling)


def _traced(recipe: str, override: list[str], row: dict, gpus: int, *, stage: int) -> dict:
    """The fullest stage's first rank, counted on fake tensors, and the closed form of the same rank beside it."""
    from launch.plan.agreement import closed_form, pairs_of
    from launch.plan.trace import trace_deep

    names = ("tp", "pp", "vp", "cp", "sp", "zero", "recompute")
    changes = [f"parallel.{key}={str(row[key]).lower()}" for key in names] + [f"batch.micro_seqs={row['mbs']}"]
    changes.append(f"parallel.offload_optimizer={str(row['offload']).lower()}")
    asked = {"world_size": gpus, "rank": stage * (gpus // row["pp"]), "overrides": [*override, *changes]}
    traced = trace_deep(recipe, **asked)
    pairs = pairs_of(closed_form(recipe, **asked), traced)
    return traced | {"rank": asked["rank"], "terms_bytes": {name: {"closed": a, "trace": b} for name, (a, b) in pairs.items()}}
