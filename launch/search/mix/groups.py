"""The simplex that a mixture study searches: groups of sources whose shares vary, each with fixed proportions inside."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from launch.search.errors import SearchError
from recipe.config import RunConfig

REST = "rest"
_DECIMALS = 3  # of a percentage in a trial's recipe
_ABSENT = 5e-4  # shares below this are left out of it


@dataclass(frozen=True)
class Group:
    """Sources that keep their proportions to each other."""

    name: str
    members: tuple[tuple[str, float], ...]
    """(source, share of the group), summing to one."""
    sft: bool


@dataclass(frozen=True)
class Simplex:
    """Shares x [num_groups] ≥ 0, summing to one, each at most its upper bound."""

    groups: tuple[Group, ...]
    upper: np.ndarray

    @property
    def names(self) -> list[str]:
        return [group.name for group in self.groups]

    @property
    def sft(self) -> np.ndarray:
        """Which groups are instruction data."""
        return np.array([group.sft for group in self.groups])

    def mixture(self, x: np.ndarray) -> dict[str, float]:
        """Percentages by source for a recipe; they sum to 100."""
        shares = {source: float(part * inner) for part, group in zip(x, self.groups) for source, inner in group.members}
        kept = {source: share for source, share in shares.items() if share >= _ABSENT}
        percent = {source: round(100 * share / sum(kept.values()), _DECIMALS) for source, share in kept.items()}
        largest = max(percent, key=lambda source: percent[source])
        percent[largest] = round(percent[largest] + 100 - sum(percent.values()), _DECIMALS)
        return percent

    def shares(self, weights: Mapping[str, float]) -> np.ndarray:
        """The point of a mixture by source (its proportions inside a group don't count)."""
        sums = np.array([sum(weights.get(source, 0.0) for source, _ in group.members) for group in self.groups], dtype=float)
        return sums / sums.sum()

    def within(self, x: np.ndarray) -> np.ndarray:
        """The points [n, num_groups] with what is above a bound handed to the others in proportion."""
        x = np.atleast_2d(x).copy()
        for _ in range(len(self.upper)):
            over = x > self.upper
            excess = np.where(over, x - self.upper, 0.0).sum(axis=1, keepdims=True)
            if excess.max() < 1e-12:
                break
            x = np.minimum(x, self.upper)
            room = self.upper - x
            taken = np.where(room > 0, x + 1e-9, 0.0)
            x += excess * taken / np.maximum(taken.sum(axis=1, keepdims=True), 1e-12)
        return x

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Which of the points keep all bounds."""
        return np.all(np.atleast_2d(x) <= self.upper + 1e-9, axis=1)


def simplex_of(config: RunConfig, stage: str, *, caps: Mapping[str, float]) -> Simplex:
    """Groups of a stage: with instruction data, each of its categories and all the rest; without, each source.

    Args:
        config: The recipe; its mixture of the stage gives proportions inside groups.
        stage: Name of the stage.
        caps: Source → most that its share may be.

    Raises:
        SearchError: No such stage, one group only, or caps that leave less than everything.
    """
    found = next((one for one in config.stages if one.name == stage), None)
    if found is None:
        raise SearchError(f"--stage {stage}: no such stage; there are: {', '.join(one.name for one in config.stages)}")
    named: dict[tuple[str, bool], dict[str, float]] = {}
    has_sft = any(config.sources[source].kind == "sft" or config.sources[source].category for source in found.mixture)
    for source, percent in found.mixture.items():
        category = config.sources[source].category
        key = (category or REST, category is not None) if has_sft else (source, False)
        named.setdefault(key, {})[source] = percent
    if len(named) < 2:
        raise SearchError(f"stages.{stage}.mixture: a single group ({', '.join(found.mixture)}); there is nothing to share out")
    groups, upper = [], []
    for (name, sft), members in named.items():
        total = sum(members.values())
        inner = tuple((source, percent / total) for source, percent in members.items())
        groups.append(Group(name, inner, sft))
        upper.append(min([1.0, *(caps[source] / share for source, share in inner if source in caps)]))
    if sum(upper) < 1:
        most = ", ".join(f"{group.name} {100 * bound:.1f} %" for group, bound in zip(groups, upper))
        raise SearchError(f"--max-epochs: the data at hand fills {100 * sum(upper):.0f} % of the stage ({most}); raise it")
    return Simplex(tuple(groups), np.array(upper))
