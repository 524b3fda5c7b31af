"""How often each source would be read: tokens wanted by the stages against tokens at hand. No torch."""

from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError
from data_prep.manifest import Manifest
from recipe.config import RunConfig
from recipe.data import data_status
from recipe.prepare import load_resolved
from recipe.rundir import RunDir


@dataclass(frozen=True)
class Demand:
    """One source in one stage; what hangs on unknown shards is None."""

    stage: str
    source: str
    percent: float
    wanted_tokens: int
    at_hand_tokens: int | None
    at_hand_documents: int | None
    epochs: float | None
    epochs_so_far: float | None


AtHand = dict[str, tuple[int | None, int | None]]
"""Source → its tokens and documents, where they are known."""


def demand(config: RunConfig, *, at_hand: AtHand) -> list[Demand]:
    """A row for each stage and source, in the recipe's order; a source goes on where the stage before stopped."""
    drawn: dict[str, int] = {}
    rows = []
    for stage in config.stages:
        total = sum(stage.mixture.values())
        for source, percent in stage.mixture.items():
            wanted = round(stage.tokens * percent / total)
            drawn[source] = drawn.get(source, 0) + wanted
            there, documents = at_hand.get(source, (None, None))
            epochs = [tokens / there if there else None for tokens in (wanted, drawn[source])]
            rows.append(Demand(stage.name, source, percent, wanted, there, documents, *epochs))
    return rows


def at_hand_of_recipe(config: RunConfig, *, data_dir: Path | str) -> AtHand:
    """What the data directory has for this recipe."""
    try:
        _, sources = data_status(config, data_dir=data_dir)
    except DataError:
        return {}  # the corpora aren't on this machine: the question is about the recipe then
    return {source.name: (source.num_tokens, source.num_documents) for source in sources}


def at_hand_of_run(run: RunDir) -> AtHand:
    """What the shards hold that a run reads."""
    manifests = {name: Manifest.load(Path(ref.train)) for name, ref in load_resolved(run).data.items()}
    return {name: (manifest.num_tokens, manifest.num_documents) for name, manifest in manifests.items()}
