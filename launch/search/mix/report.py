"""A mixture study's record: README.md with its conclusion, the mixture for a recipe, plots."""

import shlex

import numpy as np
import yaml
from scipy import stats

from data_prep.atomic import write_text
from launch.search.folder import FILES, Study
from launch.search.mix.decide import Decision, Verdict, chance_random_is_better
from launch.search.mix.plots import confirming, mixes, overall_share
from launch.search.mix.study import MixStudy, paired
from launch.search.pictures import save
from launch.search.repeats import mean_loss
from launch.search.scores import unit_of

SHARE, MIXES, CONFIRMING = "overall-share.png", "mixes.png", "confirming.png"

_SAYS = {
    Verdict.BETTER: "Both forms agree that there are better mixes than the recipe's",
    Verdict.PRIOR_HOLDS: "Both forms agree, and the recipe's own mix can't be told from the best: keep it",
    Verdict.NO_PREFERENCE: "No preference: the mixes differ no more than seeds do, so the recipe's stays",
    Verdict.UNRESOLVED: "Unresolved: the two forms disagree, or the law doesn't fit, so only the confirming runs can decide",
}


def write_report(study: Study, found: MixStudy, *, command: list[str]) -> str:
    """Writes everything that stays of the study; returns the conclusion."""
    pictures = {MIXES: mixes(found)}
    if found.level_one is not None:
        pictures = {SHARE: overall_share(found), **pictures}
    if found.confirmed:
        pictures[CONFIRMING] = confirming(found)
    for name, drawn in pictures.items():
        save(drawn, study.root / name)
    said = conclusion(found)
    write_text(study.proposal, _proposal(found, said))
    write_text(study.readme, _readme(found, said, pictures=list(pictures), command=command))
    return said


def chosen(found: MixStudy) -> tuple[str, np.ndarray]:
    """What is proposed in the end: where the forms couldn't agree, the best arm of the confirming runs."""
    decision = _decision(found)
    if decision.verdict is not Verdict.UNRESOLVED or not found.confirmed:
        return "proposed", decision.proposal
    named = {"proposed": decision.proposal, **{f"best by {form}": x for form, x in decision.by_form.items()}, **found.arms}
    name = min(found.confirmed, key=lambda one: mean_loss(found.confirmed[one]))
    return name, named[name]


def conclusion(found: MixStudy) -> str:
    """What the study found, in a paragraph."""
    decision = _decision(found)
    name, x = chosen(found)
    sentences = [f"{_SAYS[decision.verdict]} (noise between seeds {decision.noise:.4f} {unit_of(found.spec.weights)})."]
    low, high = (100 * end for end in (decision.stated.min(axis=0), decision.stated.max(axis=0)))
    rows = zip(found.simplex.names, 100 * x, low, high)
    ranges = ", ".join(f"{group} {part:.0f} ({a:.0f}-{b:.0f})" for group, part, a, b in rows)
    sentences.append(f"Proposed shares in %, in brackets the range of those mixes that can't be told from the best: {ranges}.")
    if decision.verdict in (Verdict.BETTER, Verdict.PRIOR_HOLDS):
        sentences.append(f"Predicted gain over the recipe's mix: {decision.gain:.4f} ± {decision.gain_sd:.4f}.")
    chance = chance_random_is_better(decision.forms["process"], found.simplex, x)
    sentences.append(f"Of random mixes, {100 * chance:.1f} % are predicted to be better.")
    if found.confirmed:
        for arm in [one for one in found.arms if one != name]:
            mean, error = paired(found.confirmed[name], found.confirmed[arm])
            sure = error * float(stats.t.ppf(0.95, len(found.confirmed[name]) - 1))
            word = "beats" if mean > sure else "loses to" if mean < -sure else "can't be told from"
            sentences.append(
                f"On a model {found.spec.confirm_width} times as wide, {len(found.confirmed[name])} seeds, {_arm(name)} {word} "
                f"the {arm} one: {mean:+.4f} ± {error:.4f}."
            )
    return " ".join(sentences)


def _arm(name: str) -> str:
    return "the proposed mix" if name == "proposed" else f"the mix called {name}"


def _decision(found: MixStudy) -> Decision:
    assert found.decision is not None  # conduct() was called
    return found.decision


def _proposal(found: MixStudy, said: str) -> str:
    stages = [stage.model_dump(mode="json", exclude_defaults=True) for stage in found.config.stages]
    mixture = found.simplex.mixture(chosen(found)[1])
    for stage in stages:
        if stage["name"] == found.spec.stage:
            stage["mixture"] = mixture
    return f"# {said}\n" + yaml.safe_dump({"stages": stages}, sort_keys=False)


def _readme(found: MixStudy, said: str, *, pictures: list[str], command: list[str]) -> str:
    decision = _decision(found)
    lines = [f"# Mixture of the {found.spec.stage} stage: {found.config.name}", "", said, ""]
    lines += [f"![{name.removesuffix('.png')}]({name})\n" for name in pictures]
    lines += [f"    {shlex.join(command)}", ""]
    lines += [
        f"{len(found.results)} runs for the fit; chance of such differences without a preference {decision.flat_p:.1g}, "
        f"of such residuals if the log-linear law were true {decision.unfit_p:.1g}.", "",
    ]  # fmt: skip
    lines += _best_of_forms(found, decision)
    lines += _supply(found)
    lines += _confirming(found)
    return "\n".join([*lines, FILES, ""])


def _best_of_forms(found: MixStudy, decision: Decision) -> list[str]:
    by_form = {f"best by {form}": x for form, x in decision.by_form.items()}
    rows = {**found.arms, **by_form, "proposed": decision.proposal}
    lines = ["| mix | " + " | ".join(found.simplex.names) + " | predicted: log-linear | process |"]
    lines.append("|" + "---|" * (len(found.simplex.names) + 3))
    for name, x in rows.items():
        predicted = " | ".join(f"{form.mean(x[None])[0]:.4f}" for form in decision.forms.values())
        lines.append(f"| {name} | " + " | ".join(f"{100 * part:.1f}" for part in x) + f" | {predicted} |")
    return [*lines, ""]


def _supply(found: MixStudy) -> list[str]:
    """Epochs of each source in the real run, under the proposed mix."""
    mixture = found.simplex.mixture(chosen(found)[1])
    epochs, caps = found.supply.epochs(mixture), found.supply.caps(found.spec.max_epochs)
    lines = [
        f"In the real run this stage has {found.supply.stage_tokens} tokens; the proxies' had {found.supply.proxy_tokens}, "
        f"and read of {', '.join(found.pools) or 'no source'} only as much as repeats it as often.", "",
        "| source | % | tokens at hand | epochs at full scale | most (%) |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for source, percent in mixture.items():
        most = min(100.0, 100 * caps[source])
        lines.append(f"| {source} | {percent:.1f} | {found.supply.at_hand[source]} | {epochs[source]:.2f} | {most:.0f} |")
    return [*lines, ""]


def _confirming(found: MixStudy) -> list[str]:
    if not found.confirmed:
        return []
    lines = ["| confirming arm | loss | against proportional (above 0: better) |", "|---|---|---|"]
    for name, runs in found.confirmed.items():
        against = ""
        if name != "proportional":
            mean, error = paired(runs, found.confirmed["proportional"])
            against = f"{mean:+.4f} ± {error:.4f}"
        lines.append(f"| {name} | {mean_loss(runs):.4f} | {against} |")
    return [*lines, ""]
