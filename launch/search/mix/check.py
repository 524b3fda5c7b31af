"""A mixture study's description from the command line, refused before anything runs."""

from collections.abc import Sequence
from typing import Any

from launch.search.errors import SearchError
from launch.search.mix.groups import simplex_of
from launch.search.mix.study import MixSpec
from launch.search.options import by_source
from launch.search.scores import objective_weights
from recipe.config import RunConfig
from recipe.data import sources_used
from recipe.load import validate
from recipe.units import parse_tokens


def spec_of(
    config: RunConfig, *, stage: str, weight: Sequence[str], no_worse: Sequence[str], target_tokens: str,
    target_at_hand: Sequence[str], eval_data: str, **facts: Any,
) -> MixSpec:
    """Raises `SearchError`, `TaskError` or `ConfigError`, naming option, source or stage and what would be right."""
    if not config.stages:
        raise SearchError("stages: the recipe has none; name at least one with its tokens and mixture")
    name = stage or config.stages[-1].name
    simplex_of(config, name, caps={})
    sources = sources_used(config)
    content = {
        "stage": name, "weights": objective_weights(weight, sources, data=eval_data),
        "no_worse": by_source("--no-worse", no_worse, sources),
        "target_tokens": parse_tokens(target_tokens) if target_tokens else None,
        "target_at_hand": by_source("--target-at-hand", target_at_hand, sources, parse=parse_tokens), **facts,
    }
    return validate(MixSpec, content, where="mix")
