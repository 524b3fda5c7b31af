"""A sweep's record: README.md with its conclusion, results.jsonl, the fragment for a recipe, plots."""

import shlex
import statistics
from collections import Counter
from pathlib import Path

import yaml

from data_prep.atomic import write_text
from launch.search.folder import FILES, Study
from launch.search.pictures import save
from launch.search.repeats import mean_loss
from launch.search.scores import unit_of
from launch.search.sweep.analyse import Analysis, Range
from launch.search.sweep.plots import confirming, panels
from launch.search.sweep.study import Sweep, seed_noise
from launch.search.trial import Result

PANELS, CONFIRMING = "panels.png", "confirming.png"


def write_report(study: Study, sweep: Sweep, *, command: list[str]) -> str:
    """Writes everything that stays of the study; returns the conclusion."""
    analysis = Analysis(sweep)
    save(panels(analysis), study.root / PANELS)
    if sweep.confirmed:
        save(confirming(analysis), study.root / CONFIRMING)
    said = conclusion(analysis)
    write_text(study.proposal, proposal(analysis, folder=study.root))
    write_text(study.readme, _readme(analysis, said, command=command))
    return said


def conclusion(analysis: Analysis) -> str:
    """What the study found, in a paragraph."""
    sweep = analysis.sweep
    best, recipe = mean_loss(sweep.best()), mean_loss(sweep.anchors[0])
    chosen = ", ".join(f"{key.rpartition('.')[2]} {value:g}" for key, value in analysis.chosen.trial.point.items())
    gain = recipe - best
    sentences = [
        f"Of {len(sweep.explored)} points, {chosen} is best by the mean of {len(sweep.best())} fresh seeds: {best:.4f} "
        f"{unit_of(sweep.spec.weights)} against {recipe:.4f} for the recipe as it was (seeds differ by {analysis.noise:.4f})."
    ]
    if gain <= analysis.margin:
        sentences.append("That is no more than the noise: the study found nothing better than the recipe at this size.")
    matters = [f"{one.dimension.name} between {one.low:g} and {one.high:g}" for one in analysis.region if one.matters]
    free = [one.dimension.name for one in analysis.region if not one.matters]
    sentences.append(f"The region that can't be told from the best: {'; '.join(matters) or 'everything that was searched'}.")
    if free:
        sentences.append(f"Within what was searched, {' and '.join(free)} made no difference beyond the noise.")
    if edges := [f"{one.dimension.name} ({one.at_edge})" for one in analysis.region if one.at_edge and one.matters]:
        sentences.append(f"The region runs into an end of the search: {', '.join(edges)}.")
    if sweep.confirmed:
        sentences.append(_confirmation(sweep, analysis.noise))
    return " ".join(sentences)


def _confirmation(sweep: Sweep, noise: float) -> str:
    means = {name: mean_loss(runs) for name, runs in sweep.confirmed.items() if runs}
    said = "; ".join(f"{name} {loss:.4f}" for name, loss in means.items())
    others = [loss for name, loss in means.items() if name not in ("chosen", "recipe")]
    carried = means["chosen"] <= means["recipe"] + noise and all(means["chosen"] <= loss + noise for loss in others)
    verdict = "the choice carries over" if carried else "the choice does not carry over unchanged"
    return f"On a model {sweep.spec.confirm_width} times as wide {verdict}: {said}."


def proposal(analysis: Analysis, *, folder: Path) -> str:
    """A fragment of a recipe, with its evidence as comments."""
    content: dict[str, dict[str, object]] = {}
    sweep = analysis.sweep
    gains = [mean_loss(sweep.anchors[0]) - mean_loss(sweep.best())]
    if sweep.confirmed:
        gains.append(mean_loss(sweep.confirmed["recipe"]) - mean_loss(sweep.confirmed["chosen"]))
    better = gains[-1] > analysis.margin  # the wider model's word counts, where it was asked
    point = analysis.chosen.trial.point if better else sweep.anchors[0][0].trial.point  # on a tie nothing changes
    lines = [f"# Proposed by the study in {folder.name}: {len(sweep.explored)} trials on {sweep.config.name}."]
    for one in analysis.region:
        section, _, key = one.dimension.key.rpartition(".")
        value = point[one.dimension.key]
        content.setdefault(section, {})[key] = value
        lines.append(f"# {one.dimension.key}: {value:g}, as good from {one.low:g} to {one.high:g}{_remark(one)}")
    best, recipe = mean_loss(sweep.best()), mean_loss(sweep.anchors[0])
    unit = unit_of(sweep.spec.weights)
    lines.append(f"# loss {best:.4f} against {recipe:.4f} before; seeds differ by {analysis.noise:.4f} {unit}")
    return "\n".join(lines) + "\n" + yaml.safe_dump(content, sort_keys=False)


def _remark(one: Range) -> str:
    if not one.matters:
        return ", which is all that was searched"
    return f", an end of the search ({one.at_edge})" if one.at_edge else ""


def _readme(analysis: Analysis, said: str, *, command: list[str]) -> str:
    sweep = analysis.sweep
    counts = Counter(one.status for one in sweep.explored)
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [f"# Sweep: {sweep.config.name}", "", said, "", f"![each hyperparameter against loss]({PANELS})", ""]
    if sweep.confirmed:
        lines += [f"![confirming runs]({CONFIRMING})", ""]
    lines += [f"    {shlex.join(command)}", ""]
    anchors = ", ".join(f"{seed_noise([runs]):.4f} at a loss of {mean_loss(runs):.3f}" for runs in sweep.anchors if runs)
    lines += [f"Trials: {told}. Noise between seeds, from the recipe to middling points: {anchors};", ""]
    unit = unit_of(sweep.spec.weights)
    lines[-1:] = [f"among the best and the recipe, which is what counts: {analysis.noise:.4f} {unit}.", ""]
    lines += ["| key | importance | best finalist | as good from | to |", "|---|---|---|---|---|"]
    for one in analysis.region:
        key = one.dimension.key
        share = f"{100 * analysis.importance[key]:.0f} %"
        lines.append(f"| {key} | {share} | {analysis.chosen.trial.point[key]:g} | {one.low:g} | {one.high:g}{_remark(one)} |")
    lines += ["", "Interacting pairs: " + (_pairs(analysis) or "none beyond chance (p < 0.01 in a quadratic fit)") + ".", ""]
    lines += ["| point | seeds | loss | ± |", "|---|---|---|---|"]
    named = [("recipe as it was", sweep.anchors[0]), *(("finalist", runs) for runs in sweep.finals)]
    named += [(f"wider: {name}", runs) for name, runs in sweep.confirmed.items()]
    lines += [_row(name, runs) for name, runs in named if runs]
    return "\n".join([*lines, "", FILES, ""])


def _pairs(analysis: Analysis) -> str:
    return "; ".join(f"{one.first} × {one.second} ({one.strength:+.3f}, p {one.p:.1g})" for one in analysis.interactions)


def _row(name: str, runs: list[Result]) -> str:
    point = ", ".join(f"{key.rpartition('.')[2]} {value:g}" for key, value in runs[0].trial.point.items())
    spread = statistics.stdev(one.loss for one in runs) / len(runs) ** 0.5 if len(runs) > 1 else 0.0
    return f"| {name}: {point} | {len(runs)} | {mean_loss(runs):.4f} | {spread:.4f} |"
