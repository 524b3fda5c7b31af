"""Which shard is made of which parts of the input: decided by the input and the shard size alone, before any work.

The same plan serves one process, many, and a SLURM array (task I of N takes every N-th shard), so the shards are the
same bytes for any of them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep.atomic import write_json
from data_prep.dedup.drops import DropList
from data_prep.errors import SourceError
from data_prep.sources import Piece, SourceSpec, pieces
from data_prep.tokenizer import Tokenizer

SHARD_BYTES = 2 << 30  # of input; 20 s of one core, 1.5 GB of tokens
PLAN_NAME = "plan.json"
SPLITS = ("heldout", "train")  # in the order in which a shard's parts are published
# What decides the content of shards; the rest of a source's settings may change later.
DECISIVE = ("kind", "field", "what", "heldout_frac", "loss_on", "chat_template", "prompt_variants", "prompt_seed")


@dataclass(frozen=True)
class Plan:
    """Shards of one source under one tokenizer.

    Attributes:
        spec: The source.
        folder: ``<data_dir>/<source>/<tokenizer hash>``.
        tokenizer_path: The model file (each worker loads it).
        tokenizer_sha256: Its digest.
        vocab_size, eod_id, dtype: Its facts that manifests state.
        shards: The pieces of each shard, in order.
        drops_sha256: Digest of the source's drop lists (``dedup``, ``contamination``); empty where nothing is dropped.
    """

    spec: SourceSpec
    folder: Path
    tokenizer_path: Path
    tokenizer_sha256: str
    vocab_size: int
    eod_id: int
    dtype: str
    shard_bytes: int
    shards: tuple[tuple[Piece, ...], ...]
    drops_sha256: str = ""

    @property
    def num_shards(self) -> int:
        return len(self.shards)

    def size_bytes(self, shard: int) -> int:
        """Input of one shard."""
        return sum(piece.size_bytes for piece in self.shards[shard])

    @property
    def total_bytes(self) -> int:
        return sum(self.size_bytes(shard) for shard in range(self.num_shards))

    def split_dir(self, split: str) -> Path:
        """Folder of "train" or "heldout"."""
        return self.folder / split

    def done_path(self, shard: int, split: str) -> Path:
        """The file that says that this part of the shard is whole."""
        return self.split_dir(split) / f"{shard_name(shard)}.done.json"

    def rejects_path(self, shard: int) -> Path:
        """Rejects of one shard (absent where there are none)."""
        return self.folder / "rejects" / f"{shard_name(shard)}.jsonl"

    def facts(self) -> dict[str, object]:
        """What the shards depend on, as stored in ``plan.json``."""
        decisive = {key: value for key, value in asdict(self.spec).items() if key in DECISIVE}
        decisive["heldout_frac"] = float(self.spec.heldout_frac)
        if not decisive["prompt_seed"]:
            del decisive["prompt_seed"]  # plans of before there was one stay what they are
        shards = [[[p.file, p.start, p.end, p.size_bytes] for p in shard] for shard in self.shards]
        return {
            "format": 1,
            "tokenizer_sha256": self.tokenizer_sha256,
            **decisive,
            "drops_sha256": self.drops_sha256,
            "shard_bytes": self.shard_bytes,
            "shards": shards,
        }

    def store(self) -> None:
        """Writes ``plan.json``, or checks that the one there is this one.

        Raises:
            SourceError: The folder holds shards of another plan; names the first difference.
        """
        path = self.folder / PLAN_NAME
        mine = json.loads(json.dumps(self.facts()))
        if not path.exists():
            write_json(path, mine)
            return
        stored = json.loads(path.read_text(encoding="utf-8"))
        for key in mine | stored:
            if stored.get(key) != mine.get(key):
                was, now = _difference(stored.get(key), mine.get(key))
                raise SourceError(
                    f"source {self.spec.name}: {self.folder} was made with {key} = {was}, and now it is {now}. "
                    f"Move that folder away to make it anew, or give another data directory."
                )


def _difference(was: object, now: object) -> tuple[str, str]:
    """Two short texts that differ: of lists, the first entries that do."""
    while isinstance(was, list) and isinstance(now, list):
        both = next((pair for pair in zip(was, now, strict=False) if pair[0] != pair[1]), None)
        if both is None:
            return f"{len(was)} entries", f"{len(now)} entries"
        was, now = both
    return repr(was), repr(now)


def shard_name(shard: int) -> str:
    """0 -> shard_00000."""
    return f"shard_{shard:05d}"


def make_plan(spec: SourceSpec, *, tokenizer: Tokenizer, data_dir: Path | str, shard_bytes: int = SHARD_BYTES) -> Plan:
    """Groups the input's pieces, in order, into shards of about ``shard_bytes``."""
    shards: list[tuple[Piece, ...]] = []
    current: list[Piece] = []
    size = 0
    for piece in pieces(spec, target_bytes=shard_bytes):
        if current and size + piece.size_bytes > 1.5 * shard_bytes:
            shards.append(tuple(current))
            current, size = [], 0
        current.append(piece)
        size += piece.size_bytes
        if size >= shard_bytes:
            shards.append(tuple(current))
            current, size = [], 0
    if current:
        shards.append(tuple(current))
    drops = DropList.load(data_dir, spec.name)
    return Plan(
        spec=spec,
        folder=Path(data_dir) / spec.name / tokenizer.hash12,
        tokenizer_path=tokenizer.path,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        eod_id=tokenizer.eod_id,
        dtype=tokenizer.dtype.name,
        shard_bytes=shard_bytes,
        shards=tuple(shards),
        drops_sha256=drops.digest,
    )
