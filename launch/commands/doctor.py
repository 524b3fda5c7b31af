"""`windtunnel doctor`: what works here."""

from typing import Annotated

import typer


def doctor(
    cluster: Annotated[str, typer.Option(help="Site file: written from sinfo where there is none, then checked.")] = "",
    bench: Annotated[
        str, typer.Option(help="Hardware file to write: this machine, measured, for plan --gpu FILE.")
    ] = "",
    processes: Annotated[int, typer.Option(help="Ranks of a node, for --bench; as many as train would start, if absent.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")] = False,
) -> None:
    """Checks versions, devices, backends, patches, shadowed packages and disk; exit code 1 where something can't work.

    Example: windtunnel doctor --cluster my-site.yaml
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from launch.examine import examine

    if cluster:
        _cluster(cluster)
    if bench:
        _bench(bench, processes)
    facts, faults = examine()
    if as_json:
        typer.echo(json.dumps({"facts": facts, "faults": faults}, indent=2))
    else:
        console = Console(width=None if Console().is_terminal else 120)
        table = Table("what", "here", show_header=False, box=None)
        for name, value in facts["machine"].items():
            table.add_row(name, str(value))
        for package, version in facts["versions"].items():
            table.add_row(package, version)
        console.print(table)
        backends = Table("operation", "backend", "status", box=None)
        for row in facts["backends"]:
            backends.add_row(row["operation"], row["backend"], row["status"])
        console.print(backends)
        console.print(f"{facts['num_patches']} differences from upstream, " + ("all as tested" if not faults else "see below"))
    for fault in faults:
        typer.echo(f"fault: {fault}", err=True)
    raise typer.Exit(1 if faults else 0)


def _bench(name: str, processes: int) -> None:
    """Measures this machine into a hardware file; ends the command."""
    from pathlib import Path

    from launch.local import default_processes
    from launch.plan.measure import write_hardware

    write_hardware(Path(name), num_processes=processes or default_processes(1))
    typer.echo(f"{name}: measured; use it with: windtunnel plan RECIPE --gpu {name}")
    raise typer.Exit(0)


def _cluster(name: str) -> None:
    """A site file for the cluster at hand, written or checked; ends the command."""
    from pathlib import Path

    from launch.describe import check_site, write_first_site

    if name.endswith((".yaml", ".yml")) and not Path(name).exists():
        write_first_site(Path(name))
        typer.echo(f"{name}: written from sinfo; read it, fill in the account, and run this again")
    faults = check_site(name)
    typer.echo("\n".join(faults) or f"{name}: fits this cluster")
    raise typer.Exit(1 if faults else 0)
