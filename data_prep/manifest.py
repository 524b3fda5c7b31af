"""What a split of a source holds: counts and digests by shard, and one digest over it all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import xxhash

from data_prep.atomic import write_json
from data_prep.errors import ShardError
from data_prep.indexed import IndexedShard

MANIFEST_NAME = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard of a split."""

    name: str
    num_documents: int
    num_tokens: int
    text_bytes: int
    bin_bytes: int
    bin_xxh128: str
    idx_bytes: int
    idx_xxh128: str
    mask_bytes: int = 0
    mask_xxh128: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All shards of one split of one source, in order.

    Attributes:
        text_bytes: UTF-8 bytes of the documents' texts, end-of-document marks not counted.
        has_loss_mask: Whether each shard has a ``.mask.bin`` (uint8 a token).
    """

    source: str
    split: str
    tokenizer_sha256: str
    vocab_size: int
    eod_id: int
    dtype: str
    num_documents: int
    num_tokens: int
    text_bytes: int
    shards: tuple[ShardEntry, ...]
    has_loss_mask: bool = False
    format: int = FORMAT

    @property
    def sha256(self) -> str:
        """Digest of everything else, as canonical JSON."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, folder: Path | str) -> None:
        """Writes ``manifest.json``, whole or not at all."""
        write_json(Path(folder) / MANIFEST_NAME, asdict(self) | {"sha256": self.sha256})

    @classmethod
    def load(cls, folder: Path | str) -> Manifest:
        """Reads ``manifest.json`` and checks its digest; raises ShardError that says what is wrong."""
        path = Path(folder) / MANIFEST_NAME
        try:
            raw = json.loads(path.read_bytes())
        except OSError as error:
            raise ShardError(
                f"{path}: {error.strerror}; `windtunnel tokenize` writes it when all shards are there"
            ) from error
        except ValueError as error:
            raise ShardError(f"{path}: not JSON: {error}") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise ShardError(f"{path}: not a manifest of format {FORMAT}")
        stored = raw.pop("sha256", None)
        known = {f.name for f in fields(cls)}
        if set(raw) != known:
            raise ShardError(f"{path}: keys {sorted(set(raw) ^ known)} are missing or unknown")
        try:
            manifest = cls(**raw | {"shards": tuple(ShardEntry(**entry) for entry in raw["shards"])})
        except TypeError as error:
            raise ShardError(f"{path}: a shard's entry has other keys than it must: {error}") from error
        if manifest.sha256 != stored:
            raise ShardError(f"{path}: its sha256 is not that of its content: it was changed after it was written")
        return manifest

    def open_shards(self, folder: Path | str) -> list[IndexedShard]:
        """The shards, mapped, in order."""
        return [IndexedShard(Path(folder) / entry.name) for entry in self.shards]


def file_xxh128(path: Path | str) -> str:
    """xxh128 of a file's bytes, read a slice at a time."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
