"""The sweep in pictures: Figure 6's panels, and what confirms the choice."""

from typing import TYPE_CHECKING

import numpy as np

from launch.search.pictures import BLUE, GREY, ORANGE, figure
from launch.search.repeats import mean_loss
from launch.search.scores import unit_of
from launch.search.sweep.analyse import Analysis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panels(analysis: Analysis) -> "Figure":
    """Each hyperparameter against loss: every trial, where they lie dense, the best marked, the stable region shaded."""
    columns = 2 if len(analysis.dimensions) > 1 else 1
    rows = -(-len(analysis.dimensions) // columns)
    drawn = figure(5.2 * columns, 3.6 * rows)
    grid = np.atleast_1d(drawn.subplots(rows, columns)).ravel()
    for index, axes in enumerate(grid):
        if index < len(analysis.dimensions):
            _panel(axes, analysis, index)
        else:
            axes.set_visible(False)
    sweep = analysis.sweep
    pruned = sum(one.status == "pruned" for one in sweep.explored)
    note = f", {pruned} pruned and not shown" if pruned else ""
    drawn.suptitle(f"{len(sweep.explored)} trials of {sweep.config.name}{note}; noise between seeds {analysis.noise:.3f}")
    return drawn


def _panel(axes: "Axes", analysis: Analysis, index: int) -> None:
    dimension, region = analysis.dimensions[index], analysis.region[index]
    values = np.array([one.trial.point[dimension.key] for one in analysis.scored], dtype=float)
    losses = np.array([one.loss for one in analysis.scored])
    top = np.quantile([one.loss for one in analysis.scored if one.status == "done"], 0.97)
    shown = losses <= top
    axes.scatter(values[shown], losses[shown], s=60 * _density(analysis.x[shown, index], losses[shown]), color=BLUE, alpha=0.35)
    axes.scatter(values[shown], losses[shown], s=6, color=BLUE)
    places, least = analysis.profile(index)
    at = [float(dimension.at(float(place))) for place in places]
    axes.plot(at, least, color=GREY, linewidth=1, label="surrogate, others at their best")
    axes.axvspan(float(region.low), float(region.high), color=ORANGE, alpha=0.12, label="stable region")
    chosen = analysis.chosen.trial.point[dimension.key]
    axes.scatter([chosen], [mean_loss(analysis.sweep.best())], marker="*", s=160, color=ORANGE, zorder=3, label="chosen")
    if dimension.log or dimension.choices:
        axes.set_xscale("log")
    if dimension.choices:
        axes.set_xticks([float(value) for value in dimension.choices], [f"{value:g}" for value in dimension.choices])
        axes.minorticks_off()
    span = max(top - losses.min(), 1e-3)  # equal losses are an axis, too
    axes.set_ylim(min(losses.min(), least.min()) - 0.05 * span, losses.min() + span)
    axes.set_xlabel(f"{dimension.key} (importance {100 * analysis.importance[dimension.key]:.0f} %)")
    axes.set_ylabel(f"loss ({unit_of(analysis.sweep.spec.weights)})")
    axes.grid(alpha=0.3)
    if index == 0:
        axes.legend(fontsize=7)


def _density(x: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """How many trials lie near each, as a share of the most."""
    y = (losses - losses.min()) / max(float(np.ptp(losses)), 1e-12)
    near = (np.abs(x[:, None] - x) < 0.08) & (np.abs(y[:, None] - y) < 0.08)
    return near.sum(axis=1) / near.sum(axis=1).max()


def confirming(analysis: Analysis) -> "Figure":
    """Losses of the confirming runs on the wider model, one column an arm."""
    drawn = figure(5.5, 3.4)
    axes = drawn.subplots()
    arms = {name: runs for name, runs in analysis.sweep.confirmed.items() if runs}
    for place, (name, runs) in enumerate(arms.items()):
        axes.scatter([place] * len(runs), [one.loss for one in runs], color=ORANGE if name == "chosen" else BLUE)
        axes.hlines(mean_loss(runs), place - 0.25, place + 0.25, color=GREY)
    axes.set_xticks(range(len(arms)), list(arms))
    axes.set_ylabel(f"loss ({unit_of(analysis.sweep.spec.weights)})")
    axes.set_title(f"{analysis.sweep.spec.confirm_width} times as wide, {analysis.sweep.spec.confirm_seeds} seeds")
    axes.grid(alpha=0.3)
    return drawn
