"""Makes a run directory: data, tokenizer, every lowered file. After this, no rank reads the recipe again."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from data_prep.atomic import write_json, write_text
from data_prep.manifest import Manifest
from data_prep.tokenizer import Tokenizer
from megatron_patches.catalog import catalogue
from recipe.config import RunConfig
from recipe.data import find_tokenizer, prepare
from recipe.errors import ConfigError, RunError
from recipe.lower import deepspeed_config, schedule_of, transformer_arguments
from recipe.resolve import BranchRef, DataRef, ResolvedRun, resolve
from recipe.rundir import RunDir, read_json
from recipe.units import format_count

PACKAGES = ("torch", "megatron-core", "deepspeed", "sentencepiece", "numpy", "transformers", "tensorboard", "safetensors")


def create_run(
    config: RunConfig, root: Path | str, *, world_size: int, data_dir: Path | str = "data", workers: int = 1,
    branch: BranchRef | None = None,
) -> RunDir:
    """A run directory ready to train, with data and tokenizer made where they are missing.

    An existing run is left as it is where the recipe is the same, relaid for another number of processes, and refused
    otherwise.

    Raises:
        ConfigError: The recipe can't be carried out on so many processes.
        RunError: The directory holds a run of another recipe.
        DataError: The data can't be made.
    """
    if not config.stages:
        raise ConfigError("stages: the recipe has none; name at least one with its tokens and mixture")
    resolved = resolve(config, world_size=world_size)  # before any work: a layout that can't hold is known at once
    schedule_of(resolved)
    run = RunDir(Path(root))
    if run.resolved.is_file():
        _check_same(run, config)
    folders = prepare(config, data_dir=data_dir, workers=workers)
    tokenizer = find_tokenizer(config, data_dir=data_dir)
    assert tokenizer is not None  # prepare() made it
    resolved = with_data(resolved, folders, tokenizer).model_copy(update={"branch": branch})
    check_lengths(resolved)
    write_run(run, resolved)
    return run


def with_data(resolved: ResolvedRun, folders: dict[str, dict[str, Path]], tokenizer: Tokenizer) -> ResolvedRun:
    """The run with its data pinned by digests."""
    data = {}
    for name, splits in folders.items():
        train, heldout = Manifest.load(splits["train"]), Manifest.load(splits["heldout"])
        data[name] = DataRef(
            train=str(splits["train"].absolute()), heldout=str(splits["heldout"].absolute()),
            train_sha256=train.sha256, heldout_sha256=heldout.sha256,
        )
    where = Path(tokenizer.path)
    folder = where if where.is_dir() else where.parent
    return resolved.model_copy(
        update={"data": data, "tokenizer_dir": str(folder.absolute()), "tokenizer_sha256": tokenizer.sha256}
    )


def check_lengths(resolved: ResolvedRun) -> None:
    """Each source must hold at least one sequence, of the longest; raises `ConfigError`."""
    seq = resolved.config.block_tokens
    for name, ref in resolved.data.items():
        num_tokens = Manifest.load(Path(ref.train)).num_tokens
        if num_tokens < seq + 1:
            raise ConfigError(
                f"sources.{name}: {num_tokens} tokens are fewer than one sequence of seq_length_tokens={seq} + 1; "
                "shorten the sequence or add text"
            )


def write_run(run: RunDir, resolved: ResolvedRun) -> None:
    """Every lowered file; `resolved.json` last, which makes the directory a run."""
    for folder in (run.config, run.checkpoints, run.attempts, run.eval):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(run.recipe, yaml.safe_dump(resolved.config.model_dump(mode="json"), sort_keys=False))
    write_json(run.transformer, transformer_arguments(resolved))
    write_json(run.deepspeed, deepspeed_config(resolved))
    write_json(run.patches, [{"name": p.name, "target": p.target, "rung": p.rung.name, "why": p.why} for p in catalogue()])
    write_json(run.versions, versions())
    write_text(run.summary, summary(resolved))
    write_json(run.resolved, resolved.model_dump(mode="json"))


def load_resolved(run: RunDir) -> ResolvedRun:
    return ResolvedRun.model_validate(read_json(run.resolved))


def relayout(run: RunDir, *, world_size: int) -> ResolvedRun:
    """The same run for another number of processes (data-parallel degree); everything else stays."""
    before = load_resolved(run)
    if before.layout.world_size == world_size:
        return before
    after = resolve(before.config, world_size=world_size).model_copy(
        update={"data": before.data, "tokenizer_dir": before.tokenizer_dir, "tokenizer_sha256": before.tokenizer_sha256,
                "branch": before.branch}
    )
    write_run(run, after)
    return after


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def summary(resolved: ResolvedRun) -> str:
    """RUN.md: the run in a few lines, for whoever finds the directory."""
    config = resolved.config
    lines = [
        f"# {config.name}", "",
        f"{format_count(resolved.num_parameters)} parameters ({format_count(resolved.num_non_embedding_parameters)} without "
        f"embeddings), {format_count(resolved.total_tokens)} tokens in {resolved.num_steps} steps; {resolved.layout}; "
        f"{config.mup.parametrization}, peak lr {config.optim.peak_lr:g}.", "",
    ]
    for stage in resolved.stages:
        tokens = format_count(stage.end_tokens - stage.start_tokens)
        said = [f"steps {stage.start_step} to {stage.end_step - 1}", *filter(None, [config.length_note(stage.name)])]
        lines.append(f"- {stage.name}: {tokens} tokens, {', '.join(said)}")
    lines += ["", "`windtunnel resume` with this directory goes on; `windtunnel status` says how it stands.", ""]
    return "\n".join(lines)


def _check_same(run: RunDir, config: RunConfig) -> None:
    there = load_resolved(run).config
    free = {"parallel", "logging", "checkpoint", "evaluate", "faults", "backends"}
    ours, theirs = (_flat(c.model_dump(mode="json", exclude=free)) for c in (config, there))
    different = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if different:
        lines = [f"{run.root}: holds a run of another recipe; differences (run → recipe):"]
        lines += [f"  {key}: {theirs.get(key)} → {ours.get(key)}" for key in different]
        raise RunError("\n".join([*lines, "  choose another --run-dir, or remove the old run"]))


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {key: value for name, inner in tree.items() for key, value in _flat(inner, f"{prefix}{name}.").items()}
    if isinstance(tree, list):
        return {key: value for i, inner in enumerate(tree) for key, value in _flat(inner, f"{prefix}{i}.").items()}
    return {prefix.rstrip("."): tree}

