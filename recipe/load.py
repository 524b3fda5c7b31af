"""Reads recipes: the only reader of YAML in the project. `load_recipe("demo", ["optim.peak_lr=0.02"])`.

A recipe may extend a preset or another file; mappings merge key by key, lists and mixtures are replaced.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from recipe.config import RunConfig
from recipe.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
PRESETS = Path(__file__).parent / "presets"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's own rule, which PyYAML doesn't hold to: a key stands once in its mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value!r} stands twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping; raises `ConfigError` naming file and line."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no mapping of keys to values")
    return content


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """A file, or the preset of that name; a folder of that name (a run's, say) hides no preset."""
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml"):
        raise ConfigError(f"{name}: no such recipe file; presets: {', '.join(preset_names())}")
    preset = PRESETS / f"{name}.yaml"
    if not preset.is_file():
        close = get_close_matches(name, preset_names(), n=1)
        hint = f"did you mean {close[0]}?" if close else f"presets: {', '.join(preset_names())}"
        raise ConfigError(f"{name}: neither a recipe file nor a preset; {hint}")
    return preset


def load_recipe(name: str, overrides: list[str] | None = None) -> RunConfig:
    """The recipe of a file or preset with `key.path=value` overrides applied; raises `ConfigError`."""
    path = recipe_path(str(name))
    content = _with_parents(path, chain=())
    for override in overrides or []:
        _override(content, override)
    content.setdefault("name", path.stem)
    return validate(RunConfig, content, where=str(path))


def validate(model: type[Model], content: dict[str, Any], *, where: str) -> Model:
    """Pydantic's errors as one `ConfigError`: each line names the key and what would be right there."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{where}: {_describe(model, item)}" for item in error.errors())) from error


def _describe(model: type[BaseModel], item: ErrorDetails) -> str:
    location = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{location}: unknown key; {_known_keys(model, item['loc'])}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{location}: missing"
    value = item.get("input")
    shown = "" if isinstance(value, dict | list | BaseModel) or value is None else f"={value!r}"
    return f"{location}{shown}: {message}" if location else message


def _known_keys(model: type[BaseModel], location: tuple) -> str:
    for part in location[:-1]:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            models = _models_in(field.annotation)
            model = models[0] if models else model
    close = get_close_matches(str(location[-1]), list(model.model_fields), n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(model.model_fields)}"


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner)]


def _with_parents(path: Path, *, chain: tuple[Path, ...]) -> dict[str, Any]:
    if path in chain:
        raise ConfigError(f"{path}: extends itself by way of {' → '.join(str(one) for one in chain)}")
    content = read_yaml(path)
    parent = content.pop("extends", None)
    if parent is None:
        return content
    beside = path.parent / str(parent)
    parent_path = beside if beside.is_file() else recipe_path(str(parent))
    base = _with_parents(parent_path, chain=(*chain, path))
    base.pop("name", None)
    return _merge(base, content)


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key not in ("mixture", "train_on", "sources")
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: write it as key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not YAML") from error
    node: Any = content
    parts = key.split(".")
    for part in parts[:-1]:
        node = _child(node, part, override)
    if isinstance(node, list):
        node[_index(node, parts[-1], override)] = value
    elif isinstance(node, dict):
        node[parts[-1]] = value
    else:
        raise ConfigError(f"override {override!r}: {'.'.join(parts[:-1])} holds no keys")


def _child(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, override)]
    if not isinstance(node, dict):
        raise ConfigError(f"override {override!r}: there is nothing below {part}")
    return node.setdefault(part, {})


def _index(items: list, part: str, override: str) -> int:
    """A list item by position, or a stage by its name."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(items):
        return int(part)
    raise ConfigError(f"override {override!r}: no item {part}; there are {', '.join(str(name) for name in names)}")
