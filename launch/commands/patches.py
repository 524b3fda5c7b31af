"""`windtunnel patches`: every difference from upstream."""

from typing import Annotated

import typer


def patches(
    check: Annotated[bool, typer.Option("--check", help="Hold every patch against the installed megatron-core.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON on stdout.")] = False,
) -> None:
    """List every difference from Megatron-Core: target, rung, range, status and why.

    With --check, exit code 1 if a symbol is gone, out of range or reads differently from all tested versions.

    Example: windtunnel patches --check
    """
    from megatron_patches import report

    rows = report.rows()
    if as_json:
        import orjson

        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
    else:
        _table(rows)
    problems = [row for row in rows if row["status"] == "differs"]
    for row in problems if check else []:
        typer.echo(row["problem"], err=True)
    if check and problems:
        raise typer.Exit(1)


def _table(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(rows)} differences from megatron-core {rows[0]['upstream']}")
    for column in ("patch", "rung", "target", "status", "why", "retires when"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row["name"], row["rung"], row["target"], row["status"], row["why"], row["retires_when"])
    Console().print(table)
