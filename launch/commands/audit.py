"""`windtunnel audit`: a run's live model and optimizer against the muP table."""

from typing import Annotated, Any

import typer


def audit(
    run: Annotated[str, typer.Argument(help="Run directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="Rows and differences as JSON on stdout.")] = False,
) -> None:
    """Restore a run's newest checkpoint on all its ranks and measure every role: spread, learning rate, weight decay, eps.

    Exit code 1 if anything differs from the table. The trainer does the same after the first step and every resume.

    Example: windtunnel audit runs/demo
    """
    result = _measure(run)
    if as_json:
        import orjson

        typer.echo(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(result)
    for line in result["differences"]:
        typer.echo(line, err=True)
    if result["differences"]:
        raise typer.Exit(1)


def _measure(run: str) -> dict[str, Any]:
    import json
    import os
    import subprocess
    import sys

    from launch.errors import LaunchError
    from launch.local import free_port, num_devices
    from recipe.prepare import load_resolved
    from recipe.rundir import RunDir

    root = RunDir.existing(run)
    size = load_resolved(root).layout.world_size
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node", str(size)]
    command += ["--master_port", str(free_port()), "-m", "recipe.audit", str(root.root.absolute())]
    env = dict(os.environ) if num_devices() else {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise LaunchError(f"the audit of {run} on {size} processes failed:\n{done.stderr[-2000:]}")
    return json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    verdict = f"{len(result['differences'])} differences" if result["differences"] else "as the table says"
    table = Table(title=f"{result['checkpoint'] or 'at initialisation'}, base lr {result['base_lr']:.4g}: {verdict}")
    for column in ("role", "parameters", "rms", "lr", "weight decay", "eps", "betas"):
        table.add_column(column)
    by_role: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        by_role.setdefault(row["role"], []).append(row)
    for role, rows in by_role.items():
        cells = [_range([row[key] for row in rows]) for key in ("rms", "lr", "weight_decay", "eps")]
        betas = {" ".join(f"{beta:.4g}" for beta in row["betas"] or ()) or "absent" for row in rows}
        table.add_row(role, str(len(rows)), *cells, " / ".join(sorted(betas)))
    Console(width=None if Console().is_terminal else 140).print(table)


def _range(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "absent"
    low, high = min(known), max(known)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
