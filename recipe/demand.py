"""How often each source would be read: tokens wanted by the stages against tokens at hand. No torch."""

from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError
from recipe.config import RunConfig
from recipe.data import data_status


@dataclass(frozen=True)
class Demand:
    """One source in one stage; what hangs on unknown shards is None."""

    stage: str
    source: str
    percent: float
    wanted_tokens: int
    at_hand_tokens: int | None
    epochs: float | None
    epochs_so_far: float | None


def demand(config: RunConfig, *, data_dir: Path | str) -> list[Demand]:
    """A row for each stage and source, in the recipe's order; a source goes on where the stage before stopped."""
    at_hand = _at_hand(config, data_dir)
    drawn: dict[str, int] = {}
    rows = []
    for stage in config.stages:
        total = sum(stage.mixture.values())
        for source, percent in stage.mixture.items():
            wanted = round(stage.tokens * percent / total)
            drawn[source] = drawn.get(source, 0) + wanted
            there = at_hand.get(source)
            epochs = [tokens / there if there else None for tokens in (wanted, drawn[source])]
            rows.append(Demand(stage.name, source, percent, wanted, there, *epochs))
    return rows


def _at_hand(config: RunConfig, data_dir: Path | str) -> dict[str, int | None]:
    try:
        _, sources = data_status(config, data_dir=data_dir)
    except DataError:
        return {}  # the corpora aren't on this machine: the question is about the recipe then
    return {source.name: source.num_tokens for source in sources}
