"""A mixture study in pictures: the overall share, the mixes, the confirming runs."""

from typing import TYPE_CHECKING

import numpy as np

from launch.search.mix.study import MixStudy
from launch.search.pictures import BLUE, GREY, ORANGE, figure
from launch.search.scores import unit_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def overall_share(study: MixStudy) -> "Figure":
    """Objective against the overall share of instruction data, along the recipe's split of it."""
    from launch.search.mix.design import share_line

    assert study.level_one is not None
    drawn = figure(6, 3.8)
    axes = drawn.subplots()
    sft, runs = study.simplex.sft, study.runs()
    tried = [place for place, one in enumerate(study.results) if one.trial.label == "share"]
    axes.scatter(100 * runs.x[tried][:, sft].sum(axis=1), runs.objective[tried], s=14, color=BLUE, label="runs")
    shares = np.linspace(0.02, 0.98, 100)
    line = study.simplex.within(share_line(study.simplex, study.prior, shares))
    for (name, form), style in zip(study.level_one.forms.items(), ("-", "--")):
        axes.plot(100 * line[:, sft].sum(axis=1), form.mean(line), style, color=GREY, label=name)
    kept = 100 * study.level_one.stated[:, sft].sum(axis=1)
    axes.axvspan(kept.min(), kept.max(), color=ORANGE, alpha=0.12, label="can't be told from the best")
    axes.set_xlabel("instruction data overall (%)")
    axes.set_ylabel(f"objective ({unit_of(study.spec.weights)})")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return drawn


def mixes(study: MixStudy) -> "Figure":
    """Shares of the arms and of what is proposed, with the range of each share in the stated set."""
    assert study.decision is not None
    drawn = figure(8, 3.8)
    axes = drawn.subplots()
    shown = {**study.arms, "proposed": study.decision.proposal}
    width = 0.8 / len(shown)
    colours = ("#9db8e0", "#5b7fb5", "#c7c7c7", ORANGE)
    for place, (name, x) in enumerate(shown.items()):
        at = np.arange(len(x)) + (place - (len(shown) - 1) / 2) * width
        axes.bar(at, 100 * x, width, label=name, color=colours[place])
    low, high = 100 * study.decision.stated.min(axis=0), 100 * study.decision.stated.max(axis=0)
    at = np.arange(len(low)) + (len(shown) - 1) / 2 * width
    axes.vlines(at, low, high, color="black", linewidth=1, label="mixes within noise of the best")
    axes.set_xticks(range(len(low)), study.simplex.names)
    axes.set_ylabel("share of the stage (%)")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8)
    return drawn


def confirming(study: MixStudy) -> "Figure":
    """Objective of each arm on the wider model, seed by seed (each seed is one stable run)."""
    drawn = figure(6, 3.6)
    axes = drawn.subplots()
    names = list(study.confirmed)
    for runs in zip(*study.confirmed.values(), strict=True):
        axes.plot(range(len(names)), [one.loss for one in runs], marker="o", markersize=4, linewidth=0.7, color=BLUE)
    axes.set_xticks(range(len(names)), [name.replace("best by ", "best by\n") for name in names])
    axes.set_ylabel(f"objective ({unit_of(study.spec.weights)})")
    axes.set_title(f"{study.spec.confirm_width} times as wide; a line is a seed")
    axes.grid(alpha=0.3)
    return drawn
