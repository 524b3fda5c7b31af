"""One self-contained HTML page of one run or several: `windtunnel report RUN... [--open]`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_prep.atomic import write_text
from recipe.report import charts
from recipe.report.collect import RunView
from recipe.report.coordinates import HEIGHT, WIDTH, coordinate_check
from recipe.report.curves import HEIGHT as CURVE_HEIGHT
from recipe.report.curves import WIDTH as CURVE_WIDTH
from recipe.report.curves import index_curves, reliabilities
from recipe.report.heldout import ORDERS, evaluations, heldout_rows, victories
from recipe.report.planned import plans, predictions
from recipe.report.rings import RADIUS, ring
from recipe.report.summary import COMPARED, facts, lead, tiles
from recipe.report.tasks import benchmark_groups, load_published
from recipe.report.transfer import transfer_pictures
from recipe.rundir import RunDir
from recipe.units import format_count

ASSETS = Path(__file__).with_name("assets")
CHARTS = {
    "training": charts.training_chart, "heldout": charts.heldout_chart, "gradient": charts.gradient_chart,
    "throughput": charts.throughput_chart, "phases": charts.phase_chart,
}


def write_report(runs: Sequence[RunDir], out: Path | None = None, *, published: Path | None = None) -> Path:
    """Renders the page of these runs and writes it whole; one run's page goes into its directory by default.

    Args:
        runs: One, or several to compare.
        out: File to write.
        published: JSON file of other models' results: {model: {benchmark: per cent}}.
    """
    path = out or runs[0].report
    write_text(path, render([RunView(run) for run in runs], published=published))
    return path


def render(views: Sequence[RunView], *, published: Path | None = None) -> str:
    """The page as text."""
    rows = load_published(published)
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": format_count, "embed": embed}
    return environment.get_template("page.html.jinja").render(
        views=views, view=views[0], several=len(views) > 1, lead=lead, tiles=tiles, facts=facts, compared=COMPARED,
        charts={name: draw(views) for name, draw in CHARTS.items()}, ring=ring, radius=RADIUS, colors=source_colors(views),
        zip=zip, heldout=heldout_rows(views), orders=ORDERS, has_samples=any(view.samples for view in views),
        evaluations=evaluations(views), victories=victories,
        published=published.name if published else "", benchmarks=benchmark_groups(views, rows),
        planned=predictions(views), plans=plans(views),
        calibrations=reliabilities(views), index_curves=index_curves(views), curve_size=(CURVE_WIDTH, CURVE_HEIGHT),
        coordinates=[coordinate_check(view) for view in views], panel_size=(WIDTH, HEIGHT),
        transfer=transfer_pictures(),
        css=Markup((ASSETS / "style.css").read_text(encoding="utf-8")),
        js=Markup((ASSETS / "charts.js").read_text(encoding="utf-8")),
    )


def source_colors(views: Sequence[RunView]) -> dict[str, int]:
    """One color for a source in every ring; the largest shares get the first. From 8 on they come again, paler."""
    weights: dict[str, float] = {}
    for view in views:
        for stage in view.resolved.config.stages:
            for name, weight in stage.mixture.items():
                weights[name] = max(weights.get(name, 0.0), weight)
    return {name: index for index, name in enumerate(sorted(weights, key=lambda name: -weights[name]))}


def embed(value: Any) -> Markup:
    """JSON that can stand inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
