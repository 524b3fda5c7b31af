"""A sweep's description from the command line, refused before anything runs if the recipe would refuse it."""

from collections.abc import Sequence
from typing import Any

from launch.search.errors import SearchError
from launch.search.scores import objective_weights
from launch.search.sweep.space import TABLE_5, parse_dimension
from launch.search.sweep.study import SweepSpec
from recipe.config import RunConfig
from recipe.data import sources_used
from recipe.load import load_recipe, validate


def spec_of(
    recipe: str, override: list[str], config: RunConfig, *, search: Sequence[str], weight: Sequence[str], eval_data: str,
    **facts: Any,
) -> SweepSpec:
    """Raises `SearchError`, `TaskError` or `ConfigError`, naming key or option and what would be right."""
    search = tuple(search) or TABLE_5
    dimensions = [parse_dimension(text) for text in search]
    if len({dimension.key for dimension in dimensions}) < len(dimensions):
        raise SearchError("--search: a key is named twice")
    for dimension in dimensions:
        for end in (0.0, 1.0):
            load_recipe(recipe, [*override, f"{dimension.key}={dimension.at(end)}"])
    weights = objective_weights(weight, sources_used(config), data=eval_data)
    return validate(SweepSpec, {"search": search, "weights": weights, **facts}, where="sweep")

