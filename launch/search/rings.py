"""Stages as rings (the report's Figure 2), and what a run's ledger says it has drawn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from launch.search.pictures import figure
from recipe.demand import Demand
from recipe.prepare import load_resolved
from recipe.rundir import STATE, RunDir, read_json
from recipe.units import format_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

_SMALL = 3.0  # per cent below which a slice has its label in the legend only


def rings(rows: Sequence[Demand], *, sft: set[str]) -> "Figure":
    """One ring a stage: shares of the sources by tokens, instruction data marked by hatching."""
    from matplotlib import colormaps

    stages = list(dict.fromkeys(row.stage for row in rows))
    sources = list(dict.fromkeys(row.source for row in rows))
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    drawn = figure(4.2 * len(stages) + 1.8, 4.2)
    for axes, stage in zip(drawn.subplots(1, len(stages), squeeze=False)[0], stages):
        mine = [row for row in rows if row.stage == stage]
        wedges, *_ = axes.pie(
            [row.percent for row in mine], startangle=90, counterclock=False, pctdistance=0.8,
            colors=[colours[sources.index(row.source) % len(colours)] for row in mine],
            autopct=lambda percent: f"{percent:.1f}" if percent >= _SMALL else "",
            wedgeprops={"width": 0.42, "edgecolor": "white"}, textprops={"fontsize": 8},
        )  # fmt: skip
        for wedge, row in zip(wedges, mine):
            if row.source in sft:
                wedge.set_hatch("//")
        instruction = sum(row.percent for row in mine if row.source in sft)
        axes.set_title(f"{stage}: {instruction:.0f} % instruction data" if instruction else stage)
        labels = [f"{row.source} {row.percent:g}" for row in mine]
        axes.legend(wedges, labels, fontsize=7, loc="center left", bbox_to_anchor=(0.95, 0.5), frameon=False)
    return drawn


def ledger(run: RunDir) -> tuple[str, dict[str, int]]:
    """The newest checkpoint's name, and tokens drawn of each source by then."""
    whole = run.whole_checkpoints()
    if not whole:
        return "no checkpoint yet", {}
    newest = whole[-1]
    block = load_resolved(run).config.block_tokens
    drawn = read_json(newest / STATE)["ledger"]["drawn"]
    return newest.name, {source: count * block for source, count in drawn.items()}


def table(rows: Sequence[Demand], *, drawn: dict[str, int] | None, at: str, notes: Sequence[str] = ()) -> "Table":
    """The rows for people; `drawn` is a run's ledger (over all stages so far), `at` its checkpoint, `notes` lines below."""
    from rich.table import Table

    captions = [*notes, *([f"drawn: by the ledger of {at}, over all stages"] if drawn is not None else [])]
    shown = Table(box=None, caption="\n".join(captions) or None, caption_justify="left")
    last = ["drawn"] if drawn is not None else []
    for name in ("stage", "source", "%", "tokens wanted", "at hand", "documents", "epochs, this stage", "by its end", *last):
        shown.add_column(name, justify="left" if name in ("stage", "source") else "right")
    for row in rows:
        epochs = [f"{value:.2f}" if value is not None else "?" for value in (row.epochs, row.epochs_so_far)]
        there = [format_count(value) if value is not None else "?" for value in (row.at_hand_tokens, row.at_hand_documents)]
        ledger_says = [format_count(drawn.get(row.source, 0))] if drawn is not None else []
        shown.add_row(row.stage, row.source, f"{row.percent:g}", format_count(row.wanted_tokens), *there, *epochs, *ledger_says)
    return shown
