"""A prepared run directory of a few steps, without data: for tests of what surrounds training."""

from pathlib import Path

from recipe.config import RunConfig
from recipe.resolve import ResolvedRun, resolve
from recipe.rundir import RunDir, write_json, write_text

RECIPE = {
    "name": "tiny",
    "model": {
        "num_layers": 2, "hidden_size": 16, "ffn_hidden_size": 32, "num_heads": 2, "num_kv_heads": 2,
        "seq_length_tokens": 8, "vocab_size": 64,
    },
    "sources": {"docs": {"path": "docs.jsonl"}},
    "stages": [
        {"name": "stable", "tokens": 1600, "mixture": {"docs": 100}},
        {"name": "decay", "tokens": 320, "mixture": {"docs": 100}},
    ],
    "optim": {"peak_lr": 0.01},
    "batch": {"global_tokens": 64},
}


def tiny_config(**changes: object) -> RunConfig:
    return RunConfig.model_validate(RECIPE | changes)


def tiny_run(root: Path, *, world_size: int = 2, **changes: object) -> tuple[RunDir, ResolvedRun]:
    """30 steps: 25 stable, 5 decay."""
    run = RunDir(root)
    resolved = resolve(tiny_config(**changes), world_size=world_size)
    write_json(run.resolved, resolved.model_dump(mode="json"))
    write_text(run.recipe, "{}\n")
    return run, resolved
