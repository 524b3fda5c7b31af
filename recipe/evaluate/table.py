"""The held-out table on a terminal."""

from typing import Any

from recipe.evaluate.baselines import NAMES
from recipe.units import format_count


def heldout_table(result: dict[str, Any]) -> None:
    """Prints to stdout."""
    from rich.console import Console
    from rich.table import Table

    title = f"held-out loss after {format_count(result['tokens'])} tokens ({result['stage']})"
    table = Table(title=title, title_justify="left")
    table.add_column("source")
    for name in ("tokens", "nats/token", "bits/byte", *NAMES.values()):
        table.add_column(name, justify="right")
    for name, row in result["sources"].items():
        counted = [f"{row['baselines'][order]:.4f}" if order in row["baselines"] else "–" for order in NAMES.values()]
        table.add_row(
            name, format_count(row["num_tokens"]), f"{row['loss_nats']:.4f}", f"{row['bits_per_byte']:.4f}", *counted
        )
    Console().print(table)
