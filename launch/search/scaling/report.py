"""A scaling study's record: README.md with its conclusion and the constants, a plot."""

import shlex
from typing import TYPE_CHECKING

import numpy as np

from data_prep.atomic import write_json, write_text
from launch.search.folder import FILES, Study
from launch.search.pictures import ORANGE, figure, save
from launch.search.scaling.fit import ScalingLaw
from launch.search.scaling.study import Point, ScalingStudy
from recipe.units import format_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOT = "scaling.png"


def write_report(study: Study, found: ScalingStudy, *, command: list[str]) -> str:
    """Writes everything that stays of the study; returns the conclusion."""
    law, held = _finished(found)
    save(plot(found), study.root / PLOT)
    floor, a, alpha, b, beta = law.constants
    constants = {"L0": np.exp(floor), "A": np.exp(a), "alpha": alpha, "B": np.exp(b), "beta": beta}
    facts = {name: float(value) for name, value in constants.items()} | {"N_middle": law.middle[0], "D_middle": law.middle[1]}
    write_json(study.root / "law.json", facts)
    said = conclusion(found)
    lines = [f"# Scaling: {found.config.name}", "", said, "", f"![loss over tokens by size]({PLOT})", ""]
    lines += [f"    {shlex.join(command)}", ""]
    lines += ["| parameters | tokens | loss | law | 90 % |", "|---|---|---|---|---|"]
    for one in (*found.fitted, held):
        centre = law.predict(np.array([one.params]), np.array([one.tokens]))[0]
        low, high = law.interval(one.params, one.tokens)
        name = f"{format_count(one.params)}{' (held out)' if one is held else ''} | {format_count(one.tokens)}"
        lines.append(f"| {name} | {one.result.loss:.4f} | {centre:.4f} | {low:.3f} to {high:.3f} |")
    files = FILES.replace("`proposal.yaml` the fragment for a recipe", "`law.json` the constants")
    write_text(study.readme, "\n".join([*lines, "", files, ""]))
    return said


def conclusion(found: ScalingStudy) -> str:
    """What the study found, in a paragraph."""
    law, held = _finished(found)
    floor, a, alpha, b, beta = law.constants
    low, high = law.interval(held.params, held.tokens)
    centre = float(law.predict(np.array([held.params]), np.array([held.tokens]))[0])
    n, d = (format_count(size) for size in law.middle)
    sds = np.sqrt(np.diag(law.covariance))
    inside = "inside" if low <= held.result.loss <= high else "outside"
    return (
        f"Through {len(found.fitted)} runs, L = {np.exp(floor):.3f} + {np.exp(a):.3f}·(N/{n})^−{alpha:.2f} + "
        f"{np.exp(b):.3f}·(D/{d})^−{beta:.2f}, N without embeddings "
        f"(exponents ± {sds[2]:.2f} and {sds[4]:.2f}, log L₀ ± {sds[0]:.1f}); residuals {law.residual_sd:.4f}, "
        f"seeds differ by {found.noise:.4f}. The held-out run of {format_count(held.params)} parameters ended at "
        f"{held.result.loss:.4f}, {inside} the 90 % interval of {low:.3f} to {high:.3f} (predicted {centre:.4f})."
    )


def plot(found: ScalingStudy) -> "Figure":
    """Loss against tokens, a line a size, with the law and the interval at the held-out run."""
    law, held = _finished(found)
    drawn = figure(6.5, 4)
    axes = drawn.subplots()
    tokens = np.geomspace(min(one.tokens for one in found.fitted) * 0.8, held.tokens * 1.3, 60)
    for place, params in enumerate(sorted({one.params for one in (*found.fitted, held)})):
        mine = [one for one in found.fitted if one.params == params]
        axes.plot(tokens, law.predict(np.full(60, params), tokens), color=f"C{place}", linewidth=1)
        measured = [one.result.loss for one in mine]
        axes.scatter([one.tokens for one in mine], measured, color=f"C{place}", label=format_count(params))
    low, high = law.interval(held.params, held.tokens)
    axes.vlines(held.tokens, low, high, color=ORANGE, linewidth=3, alpha=0.5, label="90 % interval")
    axes.scatter([held.tokens], [held.result.loss], marker="*", s=140, color=ORANGE, label="held out", zorder=3)
    axes.set_xscale("log")
    axes.set_xlabel("tokens, decay included")
    axes.set_ylabel("held-out loss (nats/token)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, title="parameters")
    return drawn


def _finished(found: ScalingStudy) -> tuple[ScalingLaw, Point]:
    assert found.law is not None  # conduct() was called
    assert found.held_out is not None
    return found.law, found.held_out
