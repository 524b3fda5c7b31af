"""The model card, drawn from the run: data, tokens, evaluations, limits."""

from pathlib import Path
from typing import Any

from recipe.evaluate.results import latest_heldout
from recipe.lower import mup_of
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir
from recipe.units import format_count


def model_card(run: RunDir, resolved: ResolvedRun, export: dict[str, Any]) -> str:
    """Markdown with the front matter that model hubs read."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )
    environment.filters["count"] = format_count
    return environment.get_template("card.md.jinja").render(
        run=run, resolved=resolved, config=resolved.config, export=export, mup=mup_of(resolved.config),
        heldout=latest_heldout(run), zip=zip,
    )
