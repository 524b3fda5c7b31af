"""What lies in shards: counts, lengths, tokens per byte, and random documents decoded; as a table and as a picture."""

from __future__ import annotations

import random
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import ShardError
from data_prep.manifest import MANIFEST_NAME, Manifest
from data_prep.tokenizer import Tokenizer, load_tokenizer

SAMPLE_TOKENS = 60
BINS = 24  # powers of two of tokens: 1, 2-3, 4-7, …


@dataclass
class Split:
    """One split of one source.

    Attributes:
        lengths: Documents by the power of two of their tokens, from 2^0. [BINS]
        samples: Beginnings of random documents, decoded; empty where the tokenizer isn't in the data directory.
    """

    source: str
    split: str
    folder: str
    num_documents: int
    num_tokens: int
    text_bytes: int
    num_shards: int
    lengths: list[int]
    samples: list[str] = field(default_factory=list)

    @property
    def tokens_per_byte(self) -> float:
        """Ends of documents are not counted."""
        return (self.num_tokens - self.num_documents) / max(self.text_bytes, 1)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"tokens_per_byte": self.tokens_per_byte}


def inspect(folder: Path | str, *, num_samples: int = 2, seed: int = 1) -> list[Split]:
    """Reads every manifest below a folder, and its indexes.

    Raises:
        ShardError: There is none, or shards are damaged.
    """
    paths = sorted(Path(folder).rglob(MANIFEST_NAME))
    if not paths:
        raise ShardError(f"{folder}: no {MANIFEST_NAME} below it; `windtunnel tokenize` writes them")
    return [_split(path.parent, num_samples=num_samples, rng=random.Random(f"{seed}/{path}")) for path in paths]


def _split(folder: Path, *, num_samples: int, rng: random.Random) -> Split:
    manifest = Manifest.load(folder)
    shards = manifest.open_shards(folder)
    lengths = np.zeros(BINS, dtype=np.int64)
    for shard in shards:
        for start in range(0, len(shard), 1 << 20):
            powers = np.frexp(shard.sizes[start : start + (1 << 20)].astype(np.float64))[1] - 1
            lengths += np.bincount(np.clip(powers, 0, BINS - 1), minlength=BINS)
    split = Split(
        source=manifest.source,
        split=manifest.split,
        folder=str(folder),
        num_documents=manifest.num_documents,
        num_tokens=manifest.num_tokens,
        text_bytes=manifest.text_bytes,
        num_shards=len(shards),
        lengths=lengths.tolist(),
    )
    tokenizer = _tokenizer(folder, manifest)
    if tokenizer is not None and shards:
        for _ in range(num_samples):
            shard = rng.choices(shards, weights=[entry.num_documents for entry in manifest.shards])[0]
            split.samples.append(tokenizer.decode(shard[rng.randrange(len(shard))][:SAMPLE_TOKENS].tolist()))
    return split


def _tokenizer(folder: Path, manifest: Manifest) -> Tokenizer | None:
    for parent in folder.parents:
        place = parent / "tokenizers" / manifest.tokenizer_sha256[:12]
        if place.is_dir():
            return load_tokenizer(place)
    return None


def show(splits: list[Split]) -> None:
    """Prints the table, a line of bars a split, and the samples."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 160)  # a log has no width: nothing is cut there
    table = Table("source", "split", "documents", "tokens", "bytes", "tokens/byte", "shards", "tokens a document, 1 to 2^23")
    for split in splits:
        counts = [f"{n:,}" for n in (split.num_documents, split.num_tokens, split.text_bytes)]
        table.add_row(
            split.source, split.split, *counts, f"{split.tokens_per_byte:.3f}", str(split.num_shards), bars(split.lengths)
        )
    console.print(table)
    for split in splits:
        for sample in split.samples:
            console.print(Text(f"{split.source}/{split.split}: {sample!r}"))


def bars(counts: list[int]) -> str:
    """A line of eight heights; what is there at all shows."""
    top = max(max(counts), 1)
    return "".join(" ▁▂▃▄▅▆▇█"[0 if n == 0 else 1 + round(7 * n / top)] for n in counts)


def draw(splits: list[Split], path: Path | str) -> None:
    """Draws lengths and tokens per byte of the training splits into a file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [split for split in splits if split.split == "train"] or splits
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 2.5 + 0.35 * len(shown)), layout="constrained")
    for split in shown:
        shares = np.array(split.lengths) / max(split.num_documents, 1)
        left.plot(2.0 ** np.arange(BINS), 100 * shares, marker="o", markersize=3, label=split.source)
    last = max(np.flatnonzero(np.array(split.lengths)).max(initial=1) for split in shown)
    left.set(xscale="log", xlabel="tokens in a document", ylabel="documents, %", xlim=(1, 2.0 ** (last + 1)))
    left.legend(fontsize=8)
    right.barh([split.source for split in shown], [split.tokens_per_byte for split in shown], height=0.6)
    for position, split in enumerate(shown):
        right.text(
            split.tokens_per_byte,
            position,
            f" {split.tokens_per_byte:.3f}, {split.num_tokens / 1e6:.4g}M tokens",
            va="center",
            fontsize=8,
        )
    right.set(xlabel="tokens per byte", xlim=(0, 1.7 * max(split.tokens_per_byte for split in shown)))
    right.invert_yaxis()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
