"""`windtunnel coord-check`: is the parametrisation right?"""

from typing import Annotated, Any

import typer


def coord_check(
    recipe: Annotated[str, typer.Argument(help="Recipe or preset whose mup section, heads and tying are checked.")] = "",
    parametrization: Annotated[
        str, typer.Option(help="standard, minicpm, tensor_programs, completep or native; the recipe's, or minicpm.")
    ] = "",
    axis: Annotated[str, typer.Option(help="What grows: width or depth.")] = "width",
    sizes: Annotated[str, typer.Option(help="Widths or depths, by commas.")] = "",
    seeds: Annotated[int, typer.Option(help="Number of seeds.", min=1)] = 3,
    steps: Annotated[int, typer.Option(help="Optimizer steps at each size.", min=1)] = 10,
    peak_lr: Annotated[float, typer.Option(help="Base learning rate.")] = 0.01,
    alpha: Annotated[float, typer.Option(help="Depth exponent of completep.")] = 1.0,
    quick: Annotated[bool, typer.Option("--quick", help="Two seeds and five steps: seconds, and noisier slopes.")] = False,
    untied: Annotated[bool, typer.Option("--untied", help="A head of its own instead of the tied embedding.")] = False,
    mistake: Annotated[str, typer.Option(help="Plant a mistake, to see it caught; 'list' names them.")] = "",
    out: Annotated[str, typer.Option(help="Folder for coord-check.json and coord-check.png.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Verdicts and measurements as JSON on stdout.")] = False,
) -> None:
    """Train models of several sizes for a few steps and judge, module by module, whether activations and their changes
    keep their size. Exit code 1 if any module doesn't.

    Example: windtunnel coord-check --parametrization completep --axis depth --sizes 2,4,8,16
    """
    import megatron_patches
    from megatron_patches.cpu.world import single_process_world
    from megatron_patches.mup import coordcheck

    if mistake == "list":
        from megatron_patches.mup.mistakes import MISTAKES

        typer.echo("\n".join(MISTAKES))
        return
    wanted = _sizes(sizes, axis)
    mup, setting = _asked(recipe, parametrization, alpha, steps=5 if quick else steps, peak_lr=peak_lr, untied=untied)
    mup = _with_mistake(mup, mistake)
    if quick:
        seeds = 2
    with megatron_patches.apply(cpu=True):
        single_process_world()
        measured = coordcheck.measure(
            mup,
            axis=axis,
            sizes=wanted,
            seeds=range(1, seeds + 1),
            setting=setting,
            progress=lambda line: typer.echo(line, err=True),
        )
    verdicts = coordcheck.judge(measured)
    result = coordcheck.as_json(mup, setting, measured, verdicts)
    title = f"coordinate check: {mup.parametrization} in {axis}" + (f", {mistake}" if mistake else "")
    if out:
        _write(out, result, measured, verdicts, title)
    _show(result, verdicts, title, as_json=as_json)
    if not result["passed"]:
        raise typer.Exit(1)


def _asked(recipe: str, parametrization: str, alpha: float, *, steps: int, peak_lr: float, untied: bool) -> tuple[Any, Any]:
    """The table at its base size and what is trained; from the recipe where one is given."""
    from dataclasses import replace

    from megatron_patches.mup.coordcheck import Setting
    from megatron_patches.mup.rules import Mup

    mup = Mup(
        parametrization or "minicpm", base_width=64, width=64, base_depth=2, depth=2, scale_emb=12, scale_depth=1.4,
        init_std=0.1, alpha=alpha,
    )  # fmt: skip
    setting = Setting(steps=steps, peak_lr=peak_lr, tied=not untied)
    if not recipe:
        return mup, setting
    from recipe.load import load_recipe

    config = load_recipe(recipe, [])
    mup = replace(
        mup, parametrization=parametrization or config.mup.parametrization, scale_emb=config.mup.scale_emb,
        scale_depth=config.mup.scale_depth, init_std=config.mup.init_std, alpha=config.mup.alpha,
    )  # fmt: skip
    share = config.model.num_heads // config.model.num_kv_heads
    return mup, replace(setting, kv_share=share, tied=config.model.tied, peak_lr=config.optim.peak_lr)


def _sizes(text: str, axis: str) -> list[int]:
    from launch.errors import LaunchError

    text = text or {"width": "64,128,256,512", "depth": "2,4,8,16,32"}.get(axis, "")
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise LaunchError(f"--sizes {text!r} with --axis {axis!r}: want whole numbers by commas, and width or depth") from None
    if len(set(sizes)) < 2 or min(sizes) < 1:
        raise LaunchError(f"--sizes {text!r}: a slope needs two different sizes at least, all above 0")
    return sizes


def _with_mistake(mup: Any, name: str) -> Any:
    from launch.errors import LaunchError
    from megatron_patches.mup.mistakes import MISTAKES, plant

    if not name:
        return mup
    if name not in MISTAKES:
        raise LaunchError(f"--mistake {name!r} is unknown; one of: {'; '.join(MISTAKES)}")
    return plant(mup, MISTAKES[name])


def _write(out: str, result: dict[str, Any], measured: list[Any], verdicts: list[Any], title: str) -> None:
    from pathlib import Path

    from data_prep.atomic import write_json
    from megatron_patches.mup.coordplot import plot
    from recipe.rundir import COORD_CHECK

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / COORD_CHECK
    write_json(path, result)
    plot(measured, verdicts, path.with_suffix(".png"), title=title)


def _show(result: dict[str, Any], verdicts: list[Any], title: str, *, as_json: bool) -> None:
    if as_json:
        import orjson

        typer.echo(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title}: {'passed' if result['passed'] else 'FAILED'}")
    for column in ("module", "quantity", "slope", "allowed", "verdict"):
        table.add_column(column)
    for v in verdicts:
        allowed = f"±{v.tolerance}" if v.bound == "both" else f"≤ {v.tolerance}"
        table.add_row(v.module, v.quantity, f"{v.slope:+.3f}", allowed, "ok" if v.passed else "differs")
    Console().print(table)
