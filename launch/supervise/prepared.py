"""A run directory made ready for so many ranks: created by its first job, lowered again where the number has changed."""

from pathlib import Path

from launch.errors import LaunchError
from recipe.errors import ConfigError
from recipe.resolve import ResolvedRun, resolve
from recipe.rundir import RunDir, read_json


def largest_fit(run: RunDir, num_nodes: int, *, processes_per_node: int) -> int:
    """The most nodes, up to so many, whose ranks the recipe's layout can use; 0 when none can. The global batch stays."""
    config = ResolvedRun.model_validate(read_json(run.resolved)).config
    for count in range(num_nodes, 0, -1):
        try:
            resolve(config, world_size=count * processes_per_node)
            return count
        except ConfigError:
            continue
    return 0


def prepare_run(run: RunDir, *, recipe: Path, data_dir: Path, world_size: int) -> None:
    """Makes `config/` fit so many ranks: nothing to do, or from the recipe as submitted, or again for another number."""
    if run.resolved.is_file():
        if ResolvedRun.model_validate(read_json(run.resolved)).layout.world_size != world_size:
            raise LaunchError(f"{run.root}: prepared for another number of ranks than {world_size}")
        return
    from recipe.load import load_recipe
    from recipe.prepare import create_run

    create_run(load_recipe(str(recipe)), run.root, world_size=world_size, data_dir=data_dir)
