"""A run directory made ready for so many ranks: created by its first job, lowered again where the number has changed."""

from pathlib import Path

from launch.slurm.record import ChainRecord
from recipe.errors import ConfigError
from recipe.load import load_recipe
from recipe.resolve import resolve
from recipe.rundir import RunDir


def prepare_run(run: RunDir, *, recipe: Path, data_dir: Path, world_size: int, workers: int = 1) -> None:
    """Makes `config/` fit so many ranks: from the recipe as submitted, or the run that is there for another number."""
    from recipe.prepare import create_run, relayout

    if run.resolved.is_file():
        relayout(run, world_size=world_size)
    else:
        create_run(load_recipe(str(recipe)), run.root, world_size=world_size, data_dir=data_dir, workers=workers)


def prepare_link(run: RunDir, chain: ChainRecord, train: str, *, world_size: int) -> RunDir:
    """The run directory that a link of a chain trains, the main one (`.`) or a branch, made ready; returns it."""
    from recipe.branch import create_branch

    target = RunDir((run.root / train).resolve())
    recipe, data_dir = Path(chain.recipe), Path(chain.data_dir)
    if train == "." or target.resolved.is_file():
        prepare_run(target, recipe=recipe, data_dir=data_dir, world_size=world_size)
    else:
        at_tokens = chain.branches[target.name]
        create_branch(
            run, load_recipe(str(recipe)), at_tokens=at_tokens, name=target.name, world_size=world_size, data_dir=data_dir
        )
    return target


def largest_fit(run: RunDir, num_nodes: int, *, processes_per_node: int) -> int:
    """The most nodes, up to so many, whose ranks the recipe's layout can use; 0 when none can. The global batch stays."""
    from recipe.prepare import load_resolved

    config = load_resolved(run).config
    for count in range(num_nodes, 0, -1):
        try:
            resolve(config, world_size=count * processes_per_node)
            return count
        except ConfigError:
            continue
    return 0
