"""From shards to the first batch: our stream against megatron-core's GPTDataset, over the same 1, 10 and 100 million documents.

    python -m tests.bench.bench_start [--millions 1 10 100] [--rounds 3] [--folder /tmp/...]

Each start is a process of its own; imports aren't counted. Documents are empty of text but real in number and length (the file
of tokens is sparse). GPTDataset builds its three index arrays; what it keeps of them for a later start is removed before each.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_prep.indexed import write_index
from data_prep.manifest import Manifest, ShardEntry

SEQ, BATCH, CHUNK = 1024, 8, 10**6
CONTENDERS = ("windtunnel", "megatron")


def make_shard(folder: Path, num_documents: int) -> None:
    """shard_00000.{bin,idx} in Megatron's format, and the manifest that our side reads."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = np.random.default_rng(1).integers(5, 40, num_documents, dtype=np.int32)
    num_tokens = int(sizes.sum())
    with (folder / "shard_00000.bin").open("wb") as file:
        file.truncate(2 * num_tokens)
    with (folder / "shard_00000.idx").open("wb") as file:
        slices = lambda: (sizes[first : first + CHUNK] for first in range(0, num_documents, CHUNK))  # noqa: E731
        write_index(file, slices, dtype=np.dtype(np.uint16), num_documents=num_documents)
    entry = ShardEntry(
        name="shard_00000", num_documents=num_documents, num_tokens=num_tokens, text_bytes=0, bin_bytes=2 * num_tokens,
        bin_xxh128="", idx_bytes=(folder / "shard_00000.idx").stat().st_size, idx_xxh128="",
    )  # fmt: skip
    Manifest(
        source="bench", split="train", tokenizer_sha256="0" * 64, vocab_size=32000, eod_id=2, dtype="uint16",
        num_documents=num_documents, num_tokens=num_tokens, text_bytes=0, shards=(entry,),
    ).save(folder)  # fmt: skip


def ours(folder: Path) -> np.ndarray:
    from recipe.stream import Ledger, SampleStream, open_streams

    samples = SampleStream(open_streams({"bench": str(folder)}, block_tokens=SEQ, seed=1), ledger=Ledger())
    samples.enter("stable", {"bench": 100})
    return samples.read(samples.draw(BATCH))[0]


def megatron(folder: Path) -> np.ndarray:
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.indexed_dataset import IndexedDataset
    from megatron.core.datasets.utils import Split

    config = GPTDatasetConfig(
        random_seed=1, sequence_length=SEQ, blend=([str(folder / "shard_00000")], None), split="1,0,0", tokenizer=_Tokenizer(),
        reset_position_ids=False, reset_attention_mask=False, eod_mask_loss=False, create_attention_mask=False,
    )  # fmt: skip
    shard = IndexedDataset(str(folder / "shard_00000"))
    documents = np.arange(len(shard.sequence_lengths), dtype=np.int32)
    data = GPTDataset(shard, str(folder / "shard_00000"), documents, None, Split.train, config)
    return np.stack([data[position]["tokens"] for position in range(BATCH)])


class _Tokenizer:
    vocab_size, eod, pad = 32000, 2, 3
    unique_identifiers: ClassVar[dict[str, str]] = {"class": "bench"}


def start_once(name: str, folder: Path) -> None:
    """Prints seconds to the first batch and bytes of memory that it took, as JSON."""
    if name == "megatron":
        import torch.distributed
        from megatron.core.datasets import gpt_dataset  # noqa: F401

        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    else:
        import recipe.stream  # noqa: F401
    before, started = _anonymous_bytes(), time.perf_counter()
    batch = {"windtunnel": ours, "megatron": megatron}[name](folder)
    seconds = time.perf_counter() - started
    assert len(batch) == BATCH
    print(json.dumps({"seconds": seconds, "bytes": max(0, _anonymous_bytes() - before)}))


def _anonymous_bytes() -> int:
    """Memory of this process that isn't a file's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory to the first batch.")
    parser.add_argument("--millions", nargs="*", type=int, default=[1, 10, 100])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--start", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        return start_once(options.start[0], Path(options.start[1]))
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="bench-start-") as scratch:
        for millions in options.millions:
            folder = Path(scratch) / f"{millions}m"
            make_shard(folder, millions * 10**6)
            found: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
            for _ in range(options.rounds):
                for name in CONTENDERS:
                    shutil.rmtree(folder / "shard_00000", ignore_errors=True)  # where GPTDataset keeps its arrays
                    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.bench_start", "--start", name, str(folder)]
                    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
                    found[name].append(json.loads(done.stdout.splitlines()[-1]))
            pairs = zip(found["windtunnel"], found["megatron"], strict=True)
            ratio = statistics.median(theirs["seconds"] / mine["seconds"] for mine, theirs in pairs)
            for name, rows in found.items():
                seconds = statistics.median(row["seconds"] for row in rows)
                memory = statistics.median(row["bytes"] for row in rows)
                print(f"{millions:4d} million documents  {name:10s} {seconds:8.3f} s  {memory / 2**20:8.1f} MiB", flush=True)
            print(f"{millions:4d} million documents  ratio {ratio:.0f}", flush=True)


if __name__ == "__main__":
    main()
