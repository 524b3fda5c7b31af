"""What the study's curves say, as plain numbers: minima, how far they moved, and a verdict for each claim."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from tests.transfer.curves import BASE_LR, STEP, Curve
from tests.transfer.fit import Gap, Minimum, exponent, gaps_near_best, mean_losses, minimum, moved, moved_at_least, regret

Found = Mapping[tuple[int, int], float]
Group = list[tuple[Curve, Found]]


def grouped(done: Sequence[tuple[Curve, Found]]) -> dict[str, dict[str, Group]]:
    """part -> group -> its finished curves, by size."""
    parts: dict[str, dict[str, Group]] = {}
    for curve, found in done:
        parts.setdefault(curve.part, {}).setdefault(curve.group, []).append((curve, found))
    return {
        part: {name: sorted(group, key=lambda one: one[0].size) for name, group in groups.items()}
        for part, groups in parts.items()
    }


def summarise(done: Sequence[tuple[Curve, Found]]) -> dict[str, Any]:
    """Minima and verdicts of everything that is finished."""
    parts = grouped(done)
    verdicts = {part: VERDICTS[part](groups) for part, groups in parts.items()}
    return {
        "parts": {part: {name: group_summary(group) for name, group in groups.items()} for part, groups in parts.items()},
        "verdicts": {part: verdict for part, verdict in verdicts.items() if verdict},
    }


def group_summary(group: Group) -> dict[str, Any]:
    """One row a curve, and what varies among them."""
    minima = [minimum(found) for _, found in group]
    base = minima[0]
    rows = []
    for (curve, found), one in zip(group, minima, strict=True):
        lost = regret(found, base.lr)
        rows.append(
            {"size": curve.size, **_finite(one), "num_points": len(found), "num_seeds": len({seed for _, seed in found}),
             "loss_at_base_lr": min(mean_losses(found).values()) + lost, "regret": lost}
        )  # fmt: skip
    sizes = [curve.size for curve, _ in group]
    told: dict[str, Any] = {"curves": rows}
    if len(group) > 1:
        told |= {
            "moved": moved(minima), "moved_on_grid": moved(minima, grid=True), "moved_at_least": moved_at_least(minima),
            "exponent": exponent(sizes, minima), "gaps_near_best": [asdict(gap) for gap in gaps_near_best(group, base=base)],
        }  # fmt: skip
    return told


def _finite(one: Minimum) -> dict[str, float | None]:
    return {key: value if isfinite(value) else None for key, value in asdict(one).items()}


def _within_a_step(name: str, group: Group) -> str:
    minima = [minimum(found) for _, found in group]
    factor, grid = moved(minima), moved(minima, grid=True)
    verdict = "carries over" if max(factor, grid) <= STEP * 1.001 else "moves by more than one step"
    sizes = f"{group[0][0].size:g} to {group[-1][0].size:g}"
    most = max(regret(found, minima[0].lr) for _, found in group)
    return (
        f"{name}: the best lr {verdict} from {sizes}: fitted minima within ×{factor:.2f}, on the grid ×{grid:.2f};"
        f" the first one's best costs {most:.3f} nats at most."
    )


def _falls(name: str, gaps: list[Gap]) -> str:
    rising = [
        f"{gap.sizes[0]:g} to {gap.sizes[1]:g} at {BASE_LR * STEP**gap.step:.4f}: {gap.mean:+.3f}"
        + (f" ± {gap.error:.3f}" if gap.error else "")
        for gap in gaps
        if gap.mean >= 0
    ]
    but = f"; not from {', '.join(rising)} (standard error over seeds)" if rising else ""
    return (
        f"{name}: the loss falls at {len(gaps) - len(rising)} of {len(gaps)} doublings at the three rates around the best{but}."
    )


def _width(groups: Mapping[str, Group]) -> list[str]:
    told = []
    if "minicpm" in groups:
        told.append(_within_a_step("minicpm", groups["minicpm"]))
        told.append(_falls("minicpm", gaps_near_best(groups["minicpm"], base=minimum(groups["minicpm"][0][1]))))
    if len(groups.get("standard", [])) > 1:
        minima = [minimum(found) for _, found in groups["standard"]]
        power = exponent([curve.size for curve, _ in groups["standard"]], minima)
        told.append(
            f"standard: the best lr moves ×{moved(minima):.1f} (×{moved(minima, grid=True):.1f} on the grid,"
            f" ×{moved_at_least(minima):.1f} at least), as width^{power:.2f}."
        )
    return told


def _depth(groups: Mapping[str, Group]) -> list[str]:
    told = [_within_a_step(name, group) for name, group in groups.items()]
    carried = {}
    for name, group in groups.items():
        lr = minimum(group[0][1]).lr
        carried[name] = {c.size: min(mean_losses(f).values()) + regret(f, lr) for c, f in group if c.size > group[0][0].size}
    both = sorted(set.intersection(*(set(one) for one in carried.values()))) if len(carried) > 1 else []
    if both:
        sums = {name: sum(one[size] for size in both) / len(both) for name, one in carried.items()}
        better = min(sums, key=sums.__getitem__)
        losses = "; ".join(f"{name} " + ", ".join(f"{one[size]:.3f}" for size in both) for name, one in carried.items())
        told.append(f"Loss at the lr found at depth 4, at depths {', '.join(f'{s:g}' for s in both)}: {losses}.")
        told.append(f"Recommended in depth at this budget: {better} (lower on average over these depths).")
    return told


def _scale_depth(groups: Mapping[str, Group]) -> list[str]:
    best: dict[float, list[tuple[float, str]]] = {}
    for name, group in groups.items():
        for curve, found in group:
            best.setdefault(curve.size, []).append((minimum(found).loss, name))
    return [
        f"depth {size:g}: " + ", ".join(f"{name.split()[-1]} → {loss:.3f}" for loss, name in sorted(some, key=lambda o: o[1]))
        + f"; best {min(some)[1]}."
        for size, some in sorted(best.items())
        if len(some) > 1
    ]  # fmt: skip


def _each(groups: Mapping[str, Group]) -> list[str]:
    return [_within_a_step(name, group) for name, group in groups.items() if len(group) > 1]


VERDICTS: dict[str, Callable[[Mapping[str, Group]], list[str]]] = {
    "width": _width, "depth": _depth, "gqa": _each, "scale_depth": _scale_depth, "weight_decay": _each, "batch": _each,
    "duration": _each,
}  # fmt: skip
