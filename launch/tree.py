"""`windtunnel status --tree`: runs and the decays that branch from them, each with where it left and how it decays."""

from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.tree import Tree

from launch.show_status import COLOURS
from launch.status import RunStatus
from recipe.config import StageConfig
from recipe.prepare import load_resolved
from recipe.rundir import RunDir
from recipe.units import format_count


def show_tree(found: list[RunStatus], *, as_json: bool) -> None:
    """Prints the runs as trees, or as JSON."""
    if as_json:
        print(orjson.dumps([tree_json(one) for one in found], option=orjson.OPT_INDENT_2).decode())
        return
    root = Tree("runs", hide_root=True)
    for one in found:
        _grow(root, one)
    Console().print(root)


def tree_json(one: RunStatus) -> dict[str, Any]:
    """The same for programs: a run, where it left its parent, its decay, its branches."""
    return {
        "run": one.path, "state": one.state, "tokens": one.tokens, "loss": one.loss, **_origin(one),
        "branches": [tree_json(branch) for branch in one.branches],
    }  # fmt: skip


def _grow(parent: Tree, one: RunStatus) -> None:
    origin = _origin(one)
    words = [f"[bold]{Path(one.path).name}[/]"]
    if origin["at_tokens"] is not None:
        words.append(f"from {format_count(origin['at_tokens'])} tokens")
    words += [*origin["stages"], f"[{COLOURS.get(one.state, 'default')}]{one.state}[/]"]
    if one.tokens:
        total = f"/{format_count(one.total_tokens)}" if one.total_tokens else ""
        words.append(f"{format_count(one.tokens)}{total} tokens")
    if one.loss is not None:
        words.append(f"loss {one.loss:.4f}")
    node = parent.add(", ".join(words))
    for branch in sorted(one.branches, key=lambda each: (_origin(each)["at_tokens"] or 0, each.path)):
        _grow(node, branch)


def _origin(one: RunStatus) -> dict[str, Any]:
    """Where a branch left, and the stages that are its own (a run's: all of them), in words."""
    run = RunDir(Path(one.path))
    if not run.resolved.is_file():
        return {"at_tokens": None, "stages": []}
    resolved = load_resolved(run)
    at_tokens = resolved.branch.at_tokens if resolved.branch else None
    stages = [
        _in_words(stage)
        for stage, done in zip(resolved.config.stages, resolved.stages, strict=True)
        if done.end_tokens > (at_tokens or 0)
    ]
    return {"at_tokens": at_tokens, "stages": stages}


def _in_words(stage: StageConfig) -> str:
    words = f"{stage.name} {format_count(stage.tokens)} {stage.lr.shape}"
    return words if stage.lr.half_life_tokens is None else f"{words} T={format_count(stage.lr.half_life_tokens)}"
