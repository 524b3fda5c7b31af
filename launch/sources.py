"""What `dedup` and `contamination` work on: a recipe's sources, or paths given on the command line."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.sources import SourceSpec
from launch.errors import LaunchError

SUFFIX_KINDS = {".parquet": "parquet", ".txt": "text", ".md": "text"}


def command_line_sources(
    inputs: Sequence[str], overrides: Sequence[str], *, kind: str = "", field: str = "text"
) -> list[SourceSpec]:
    """The sources of one recipe (a YAML file or a preset's name), or one source for each path.

    Raises:
        LaunchError: Two paths have one name, or an override is given with paths.
        ConfigError: The recipe can't be read.
    """
    if len(inputs) == 1 and _is_recipe(inputs[0]):
        from recipe.load import load_recipe

        config = load_recipe(inputs[0], list(overrides))
        return [source.spec(name) for name, source in config.sources.items()]
    if overrides:
        raise LaunchError("--override goes with a recipe, not with paths")
    specs = [SourceSpec(name=_name(path), kind=kind or _kind(path), paths=(path,), field=field) for path in inputs]
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise LaunchError(f"two paths are called {name!r}; rename one, or name both in a recipe's sources")
    return specs


def _is_recipe(name: str) -> bool:
    from recipe.load import preset_names

    return Path(name).suffix in (".yaml", ".yml") or (name in preset_names() and not Path(name).exists())


def _name(path: str) -> str:
    """data/web.jsonl.zst -> web; what a pattern matches is called after its folder."""
    last = Path(path).name
    if any(sign in last for sign in "*?["):
        last = Path(path).parent.name
    return last.split(".")[0] or "input"


def _kind(path: str) -> str:
    """By suffix; of a folder or pattern by its first file."""
    target = Path(path)
    if target.is_dir():
        target = next((file for file in sorted(target.rglob("*")) if file.is_file()), target)
    return SUFFIX_KINDS.get(target.suffix, "jsonl")
