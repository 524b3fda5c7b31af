"""Which text comes when: mixture streams and their ledger. A function of recipe and seed alone. No torch.

A source is one endless stream: its shards, laid end to end, are cut into blocks as long as the recipe's longest sequence
(plus one token for the last target), and epoch e visits all blocks in the order of a keyed permutation. The permutation is
computed, not stored (a Feistel network with cycle walking), so start-up and memory don't grow with the corpus. Which source a
block is drawn from follows from the mixture by the largest deficit. The ledger (blocks drawn of each source) says everything
about where a run stands: a stage change, another layout or a resume goes on exactly there.

Where stages have sequences of different lengths, each must divide the longest: a shorter one's samples are the parts of a
block, one after the other. So the order of the text doesn't depend on where lengths change, and nothing is skipped or
repeated there; every step reads whole blocks (recipe/resolve.py refuses a batch that doesn't). Where all are alike, a block is
a sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import xxhash

from data_prep.indexed import IndexedShard
from data_prep.manifest import Manifest
from recipe.errors import ConfigError

_ROUNDS = 6


class Permutation:
    """A keyed bijection of [0, size): `permutation(i)` without any array of that size."""

    def __init__(self, size: int, *, key: str) -> None:
        self.size = size
        self._half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half_bits) - 1
        self._keys = [xxhash.xxh64_intdigest(f"{key}/{round_}".encode()) for round_ in range(_ROUNDS)]

    def __call__(self, index: int) -> int:
        value = index
        while True:  # cycle walking: the network permutes a power of four, at most four times the size
            value = self._network(value)
            if value < self.size:
                return value

    def _network(self, value: int) -> int:
        left, right = value >> self._half_bits, value & self._mask
        for key in self._keys:
            mixed = (right + key) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
            mixed = (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
            left, right = right, left ^ (mixed ^ mixed >> 32) & self._mask
        return left << self._half_bits | right


class TokenStore:
    """The shards of one dataset folder as one row of tokens, memory-mapped."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.load(self.folder)
        self._starts = np.cumsum([0] + [shard.num_tokens for shard in self.manifest.shards])
        self._shards: dict[int, IndexedShard] = {}

    @property
    def num_tokens(self) -> int:
        return int(self._starts[-1])

    def tokens(self, start: int, count: int) -> np.ndarray:
        """int64 tokens [start, start + count), across shard boundaries."""
        return self._read(start, count, lambda shard: shard.tokens, np.int64)

    def loss_mask(self, start: int, count: int) -> np.ndarray:
        """float32: 1 where the token counts as a target."""
        if not self.manifest.has_loss_mask:
            return np.ones(count, dtype=np.float32)
        return self._read(start, count, lambda shard: shard.loss_mask, np.float32)

    def text_bytes_per_token(self) -> float:
        return self.manifest.text_bytes / max(1, self.num_tokens)

    def _read(self, start: int, count: int, column, dtype) -> np.ndarray:
        parts = []
        index = int(np.searchsorted(self._starts, start, side="right")) - 1
        while count > 0:
            offset = start - int(self._starts[index])
            part = column(self._shard(index))[offset : offset + count]
            parts.append(np.asarray(part, dtype=dtype))
            start, count, index = start + len(part), count - len(part), index + 1
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _shard(self, index: int) -> IndexedShard:
        if index not in self._shards:
            self._shards[index] = IndexedShard(self.folder / self.manifest.shards[index].name)
        return self._shards[index]


@dataclass(frozen=True)
class Window:
    """A block of a source, or one training sequence of it."""

    source: str
    draw: int
    """How many blocks of the source came before this one in the run."""
    epoch: int
    index: int
    """Position in the source, in blocks."""
    part: int = 0
    """Which of the block's sequences."""


class SourceStream:
    """The endless stream of one source."""

    def __init__(self, name: str, store: TokenStore, *, block_tokens: int, seed: int) -> None:
        self.name, self.store, self.block_tokens = name, store, block_tokens
        self.num_blocks = (store.num_tokens - 1) // block_tokens
        if self.num_blocks < 1:
            raise ConfigError(
                f"sources.{name}: {store.num_tokens} tokens are fewer than the longest sequence, "
                f"seq_length_tokens={block_tokens} + 1; shorten the sequence or add text"
            )
        self._seed = seed
        self._orders: dict[int, Permutation] = {}

    def window(self, draw: int) -> Window:
        epoch, position = divmod(draw, self.num_blocks)
        if epoch not in self._orders:
            self._orders[epoch] = Permutation(self.num_blocks, key=f"{self._seed}/{self.name}/{epoch}")
        return Window(self.name, draw, epoch, self._orders[epoch](position))

    def tokens(self, window: Window, *, seq_length_tokens: int | None = None) -> np.ndarray:
        """int64[seq + 1]; the whole block where no length is given."""
        seq = seq_length_tokens or self.block_tokens
        return self.store.tokens(window.index * self.block_tokens + window.part * seq, seq + 1)

    def loss_mask(self, window: Window, *, seq_length_tokens: int | None = None) -> np.ndarray:
        """float32[seq], of the targets."""
        seq = seq_length_tokens or self.block_tokens
        return self.store.loss_mask(window.index * self.block_tokens + window.part * seq + 1, seq)


class Mixture:
    """Which source each block of a stage is drawn from: always the one furthest behind its share."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.sources = tuple(weights)
        exact = [Fraction(str(weight)) for weight in weights.values()]
        scale = np.lcm.reduce([fraction.denominator for fraction in exact])
        self._weights = np.array([int(fraction * int(scale)) for fraction in exact], dtype=np.int64)
        self._total = int(self._weights.sum())
        self.counts = np.zeros(len(exact), dtype=np.int64)

    def draw(self, count: int) -> list[str]:
        """Sources of the next blocks; at any time each count is within one block of its share."""
        drawn = []
        for _ in range(count):
            position = int(self.counts.sum()) + 1
            index = int(np.argmax(self._weights * position - self.counts * self._total))
            self.counts[index] += 1
            drawn.append(self.sources[index])
        return drawn


class Ledger:
    """Blocks drawn of each source, over the run and within the stage; the state of the whole data side."""

    def __init__(self, state: dict | None = None) -> None:
        state = state or {}
        self.drawn: dict[str, int] = dict(state.get("drawn", {}))
        self.stage: str | None = state.get("stage")
        self.drawn_in_stage: dict[str, int] = dict(state.get("drawn_in_stage", {}))

    def state(self) -> dict:
        return {"stage": self.stage, "drawn": dict(self.drawn), "drawn_in_stage": dict(self.drawn_in_stage)}


class SampleStream:
    """The samples of a run in order, stage after stage."""

    def __init__(self, streams: dict[str, SourceStream], *, ledger: Ledger) -> None:
        self.streams, self.ledger = streams, ledger
        self._mixture: Mixture | None = None
        self._entered: str | None = None
        self._seq: int | None = None

    def enter(self, stage: str, weights: dict[str, float], *, seq_length_tokens: int | None = None) -> None:
        """Starts a stage, or goes on within it where the ledger already stands there; nothing where it was entered before.

        Args:
            stage: Its name.
            weights: Source → share.
            seq_length_tokens: Of its samples, a divisor of the block; None: the block itself.
        """
        if stage == self._entered:
            return
        self._mixture, self._entered, self._seq = Mixture(weights), stage, seq_length_tokens
        if self.ledger.stage != stage:
            self.ledger.stage, self.ledger.drawn_in_stage = stage, {}
        self._mixture.counts[:] = [self.ledger.drawn_in_stage.get(source, 0) for source in self._mixture.sources]

    def draw(self, count: int) -> list[Window]:
        """The next global batch, so many samples in whole blocks; moves the ledger."""
        assert self._mixture is not None, "enter a stage first"
        parts = 1 if self._seq is None else self._block_tokens // self._seq
        blocks, rest = divmod(count, parts)
        assert not rest, f"{count} samples are no whole blocks of {parts}"  # resolve() refuses such a batch
        windows = []
        for source in self._mixture.draw(blocks):
            draw = self.ledger.drawn.get(source, 0)
            block = self.streams[source].window(draw)
            windows += [replace(block, part=part) for part in range(parts)]
            self.ledger.drawn[source] = draw + 1
            self.ledger.drawn_in_stage[source] = self.ledger.drawn_in_stage.get(source, 0) + 1
        return windows

    def read(self, windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
        """int64[n, seq + 1] tokens and float32[n, seq] loss mask."""
        streams, seq = self.streams, self._seq
        tokens = np.stack([streams[window.source].tokens(window, seq_length_tokens=seq) for window in windows])
        mask = np.stack([streams[window.source].loss_mask(window, seq_length_tokens=seq) for window in windows])
        return tokens, mask

    @property
    def _block_tokens(self) -> int:
        return next(iter(self.streams.values())).block_tokens


def open_streams(folders: dict[str, str], *, block_tokens: int, seed: int) -> dict[str, SourceStream]:
    """Source → stream, over the train folders of a resolved run."""
    return {
        name: SourceStream(name, TokenStore(folder), block_tokens=block_tokens, seed=seed)
        for name, folder in folders.items()
    }


def rank_share(windows: Sequence[Window], *, dp_rank: int, dp: int, micro_seqs: int) -> list[Sequence[Window]]:
    """A data-parallel rank's micro batches of a global batch: micro batch m is the m-th row of dp · micro_seqs samples."""
    row = dp * micro_seqs
    return [
        windows[start + dp_rank * micro_seqs : start + (dp_rank + 1) * micro_seqs] for start in range(0, len(windows), row)
    ]
