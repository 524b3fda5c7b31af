"""A recipe's data: its tokenizer, then each source's shards, doing only what is missing.

prepare(load_recipe("demo"), data_dir="data", workers=2)  ->  {"docs": {"train": .../train, "heldout": ...}, ...}
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep import binarize
from data_prep.atomic import write_json
from data_prep.errors import DataError, TokenizerError
from data_prep.manifest import MANIFEST_NAME, Manifest
from data_prep.plan import SHARD_BYTES, SPLITS, Plan, make_plan
from data_prep.shard import is_done
from data_prep.sources import Document, SourceSpec, pieces, read
from data_prep.sources.block import heldout_limit, split_key
from data_prep.tokenizer import JSON_NAME, MODEL_NAME, Tokenizer, load_tokenizer, train_unigram
from recipe.config import RunConfig
from recipe.errors import ConfigError

LOG = logging.getLogger(__name__)
SAMPLE_PIECE_BYTES = 1 << 20
DIGEST_TEXT_KEYS = ("kind", "field", "what", "heldout_frac", "loss_on", "chat_template", "prompt_variants", "prompt_seed")


def prepare(
    config: RunConfig, *, data_dir: Path | str, workers: int = 1, shard_bytes: int = SHARD_BYTES
) -> dict[str, dict[str, Path]]:
    """Makes the tokenizer and the shards of every source that a stage draws from.

    Returns:
        By source: the folders of its "train" and "heldout" splits.

    Raises:
        DataError: A corpus is missing, its records are bad, the disk is full; see data_prep.errors.
        ConfigError: The tokenizer does not fit the model.
    """
    tokenizer = prepare_tokenizer(config, data_dir=data_dir)
    plans = source_plans(config, tokenizer, data_dir=data_dir, shard_bytes=shard_bytes)
    for plan in plans.values():
        plan.store()
    for name, plan in plans.items():
        binarize.run_shards(plan, binarize.missing(plan), workers=workers)
        manifests = binarize.finish(plan)
        LOG.info("%s: %d train tokens, %d held out", name, manifests["train"].num_tokens, manifests["heldout"].num_tokens)
    return {name: {split: plan.split_dir(split) for split in SPLITS} for name, plan in plans.items()}


def prepare_task(
    config: RunConfig, *, data_dir: Path | str, task: int, num_tasks: int, workers: int = 1, shard_bytes: int = SHARD_BYTES
) -> bool:
    """One array task's share of `prepare`: every ``num_tasks``-th missing shard of all sources, and, if it was the last to
    finish, the manifests.

    Returns:
        Whether everything is done now.
    """
    tokenizer = prepare_tokenizer(config, data_dir=data_dir)
    plans = source_plans(config, tokenizer, data_dir=data_dir, shard_bytes=shard_bytes)
    place = 0  # counts on from source to source, so that many small sources fill the tasks too
    for plan in plans.values():
        plan.store()
        share = [shard for shard in range(plan.num_shards) if (place + shard) % num_tasks == task]
        binarize.run_shards(plan, [shard for shard in share if not is_done(plan, shard)], workers=workers)
        place += plan.num_shards
    if any(binarize.missing(plan) for plan in plans.values()):
        return False
    for plan in plans.values():
        binarize.finish(plan)
    return True


def finish(config: RunConfig, *, data_dir: Path | str, shard_bytes: int = SHARD_BYTES) -> Tokenizer:
    """Writes the manifests of shards that are all done, and returns their tokenizer.

    Raises:
        DataError: The tokenizer or a shard is missing; names how many.
    """
    tokenizer = find_tokenizer(config, data_dir=data_dir)
    if tokenizer is None:
        raise DataError(f"{data_dir}: the recipe's tokenizer is not there; `windtunnel tokenizer` makes it")
    for plan in source_plans(config, tokenizer, data_dir=data_dir, shard_bytes=shard_bytes).values():
        binarize.finish(plan)
    return tokenizer


def sources_used(config: RunConfig) -> list[str]:
    """Sources that some stage draws from, in the order of the recipe."""
    drawn = {source for stage in config.stages for source in stage.mixture}
    return [name for name in config.sources if name in drawn]


def source_plans(
    config: RunConfig, tokenizer: Tokenizer, *, data_dir: Path | str, shard_bytes: int = SHARD_BYTES
) -> dict[str, Plan]:
    """The plan of each source that is drawn from."""
    return {
        name: make_plan(config.sources[name].spec(name), tokenizer=tokenizer, data_dir=data_dir, shard_bytes=shard_bytes)
        for name in sources_used(config)
    }


def prepare_tokenizer(config: RunConfig, *, data_dir: Path | str) -> Tokenizer:
    """The recipe's tokenizer in the data directory: found there, copied there, or trained.

    Raises:
        TokenizerError: It can't be loaded or trained.
        ConfigError: It has more ids than the model.
    """
    tokenizer = find_tokenizer(config, data_dir=data_dir)
    if tokenizer is None:
        tokenizer = _train(config, data_dir=Path(data_dir))
    if tokenizer.vocab_size > config.model.vocab_size:
        raise ConfigError(
            f"tokenizer: {tokenizer.path} has {tokenizer.vocab_size} ids, model.vocab_size={config.model.vocab_size} holds "
            f"fewer; set model.vocab_size to {tokenizer.vocab_size} or take another tokenizer"
        )
    return tokenizer


def find_tokenizer(config: RunConfig, *, data_dir: Path | str) -> Tokenizer | None:
    """The recipe's tokenizer if it is there already (one named by path always is, and is copied); None if not."""
    data_dir = Path(data_dir)
    if config.tokenizer.path:
        return _keep(load_tokenizer(config.tokenizer.path), data_dir)
    pointer = data_dir / "tokenizers" / "by_recipe" / f"{_training_key(config)}.json"
    if not pointer.is_file():
        return None
    sha256 = json.loads(pointer.read_text(encoding="utf-8"))["sha256"]
    tokenizer = load_tokenizer(data_dir / "tokenizers" / sha256[:12])
    if tokenizer.sha256 != sha256:
        raise TokenizerError(f"{tokenizer.path}: its digest is {tokenizer.hash12}, not {sha256[:12]}: it was changed")
    return tokenizer


def _keep(tokenizer: Tokenizer, data_dir: Path) -> Tokenizer:
    """Copies a tokenizer to its place in the data directory."""
    folder = data_dir / "tokenizers" / tokenizer.hash12
    name = JSON_NAME if tokenizer.kind == "huggingface" else MODEL_NAME
    if not (folder / name).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}.{os.getpid()}.tmp"
        shutil.copyfile(tokenizer.path, temporary)
        os.replace(temporary, folder / name)
        facts = {"sha256": tokenizer.sha256, "vocab_size": tokenizer.vocab_size, "eod_id": tokenizer.eod_id}
        write_json(folder / "meta.json", {"format": 1, **facts, "copied_from": str(tokenizer.path)})
    return load_tokenizer(folder / name)


def _train(config: RunConfig, *, data_dir: Path) -> Tokenizer:
    """Trains on the recipe's sample and puts the model in its place."""
    shares = _shares(config)
    tokenizers = data_dir / "tokenizers"
    tokenizers.mkdir(parents=True, exist_ok=True)
    facts = {"train_on": shares, "train_bytes": config.tokenizer.train_bytes}
    with tempfile.TemporaryDirectory(prefix=".training.", dir=tokenizers) as scratch:
        trained = train_unigram(
            _sample(config, shares), out_dir=scratch, vocab_size=config.model.vocab_size, facts={"sample": facts}
        )
        folder = tokenizers / trained.hash12
        if not (folder / MODEL_NAME).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(scratch, f"{scratch}.whole")
            os.replace(f"{scratch}.whole", folder)
    write_json(tokenizers / "by_recipe" / f"{_training_key(config)}.json", {"sha256": trained.sha256, **facts})
    return load_tokenizer(folder)


def _shares(config: RunConfig) -> dict[str, float]:
    """Share of the training sample by source: as written, else all sources of the stages alike."""
    written = config.tokenizer.train_on or dict.fromkeys(sources_used(config), 1.0)
    if not written:
        raise ConfigError("tokenizer.train_on: no source to train on; name some, or give tokenizer.path")
    total = sum(written.values())
    return {name: share / total for name, share in written.items()}


def _training_key(config: RunConfig) -> str:
    """Digest of everything that decides the trained model: settings, and which text it is trained on."""
    facts = {
        "vocab_size": config.model.vocab_size,
        "train_bytes": config.tokenizer.train_bytes,
        "shares": _shares(config),
        "sources": {name: _source_facts(config.sources[name].spec(name)) for name in _shares(config)},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _source_facts(spec: SourceSpec) -> dict[str, object]:
    files: dict[str, int] = {}
    for piece in pieces(spec):
        files[piece.file] = files.get(piece.file, 0) + piece.size_bytes
    return {key: getattr(spec, key) for key in DIGEST_TEXT_KEYS} | {"files": files}


def _sample(config: RunConfig, shares: dict[str, float]) -> Iterator[str]:
    """Texts of the training side of each source, spread evenly over its input."""
    for name, share in shares.items():
        wanted = round(share * config.tokenizer.train_bytes)
        taken = 0
        for text in _spread(config.sources[name].spec(name), wanted):
            taken += len(text.encode("utf-8"))
            yield text
        if taken < 0.95 * wanted:
            LOG.warning(
                "tokenizer: source %s holds %d bytes of the %d that its share asks for; all are used", name, taken, wanted
            )


def _spread(spec: SourceSpec, wanted_bytes: int) -> Iterator[str]:
    """About ``wanted_bytes`` of text from evenly spaced pieces of the input, held-out documents left out."""
    parts = pieces(spec, target_bytes=SAMPLE_PIECE_BYTES)
    limit = heldout_limit(spec.heldout_frac)
    left = wanted_bytes
    for rank, position in enumerate(_spaced(len(parts))):
        quota = left if parts[position].size_bytes == 0 else max(left // (len(parts) - rank), min(left, SAMPLE_PIECE_BYTES))
        for item in read(spec, parts[position]):
            if not isinstance(item, Document):
                continue
            raw = item.text.encode("utf-8", "replace")
            if split_key(item.group.encode("utf-8", "surrogatepass") if item.group else raw) < limit:
                continue
            yield raw[: max(left, 0)].decode("utf-8", "ignore")
            left, quota = left - len(raw), quota - len(raw)
            if left <= 0:
                return
            if quota <= 0:
                break


def _spaced(count: int) -> Iterator[int]:
    """0 to count - 1, each once, any beginning of which is spread evenly (steps of the golden ratio)."""
    from math import gcd

    step = max(1, round(count * 0.618))
    while gcd(step, count) != 1:
        step += 1
    return ((position * step) % count for position in range(count))


@dataclass(frozen=True)
class SourceStatus:
    """How far one source is.

    Attributes:
        num_tokens: Of the train split, once there is a manifest; None before.
    """

    name: str
    folder: Path | None
    num_shards: int
    num_done: int
    total_bytes: int
    left_bytes: int
    num_documents: int | None = None
    num_tokens: int | None = None
    num_heldout_tokens: int | None = None

    @property
    def complete(self) -> bool:
        return self.num_tokens is not None


def data_status(
    config: RunConfig, *, data_dir: Path | str, shard_bytes: int = SHARD_BYTES
) -> tuple[Tokenizer | None, list[SourceStatus]]:
    """What is there and what is missing; writes nothing (but a copy of a tokenizer that is named by path)."""
    tokenizer = find_tokenizer(config, data_dir=data_dir)
    if tokenizer is None:
        return None, [_untouched(config.sources[name].spec(name)) for name in sources_used(config)]
    plans = source_plans(config, tokenizer, data_dir=data_dir, shard_bytes=shard_bytes)
    return tokenizer, [_status(name, plan) for name, plan in plans.items()]


def _untouched(spec: SourceSpec) -> SourceStatus:
    parts = pieces(spec, target_bytes=SHARD_BYTES)
    total = sum(piece.size_bytes for piece in parts)
    return SourceStatus(spec.name, None, max(1, round(total / SHARD_BYTES)), 0, total, total)


def _status(name: str, plan: Plan) -> SourceStatus:
    left = binarize.missing(plan)
    left_bytes = sum(plan.size_bytes(shard) for shard in left)
    done = plan.num_shards - len(left)
    common = (name, plan.folder, plan.num_shards, done, plan.total_bytes, left_bytes)
    if left or not all((plan.split_dir(split) / MANIFEST_NAME).is_file() for split in SPLITS):
        return SourceStatus(*common)
    try:
        train, heldout = (Manifest.load(plan.split_dir(split)) for split in ("train", "heldout"))
    except DataError:
        return SourceStatus(*common)
    return SourceStatus(*common, train.num_documents, train.num_tokens, heldout.num_tokens)
