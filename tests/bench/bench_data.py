"""How fast text becomes shards, against what else there is: paired ratios, each round on text that nobody has seen yet.

    python -m tests.bench.bench_data [--corpus DIR] [--field text] [--tokenizer DIR] [--rounds 5] [--slice-mb 50]

Each contender runs in a fresh process on the same slice of JSON lines; imports and loading the model are not counted (but
for the 0.1 s in which Megatron's pool worker loads its own). Every output is compared with Megatron's, byte for byte.
Two processes against one: the whole corpus (1 GB at most) by ``binarize``, everything counted; and again without what one
document takes, which is the start. Without --corpus, the text files of this Python are the corpus.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import pyarrow
import pyarrow.parquet
import zstandard

from data_prep.sources import SourceSpec
from data_prep.sources.files import expand, line_blocks
from data_prep.sources.jsonl import SUFFIXES
from data_prep.tokenizer import load_tokenizer, train_unigram

FIELD = "text"
RATIO_TO = "megatron"
FORMATS = (".gz", ".zst", ".parquet")  # of the same text
CONTENDERS = ("megatron", "datatrove", "plain", "fast", *(f"fast{suffix}" for suffix in FORMATS))
WORKERS = {"one": 1, "two": 2}
TRAIN_BYTES = 20_000_000
PARTS = 8  # shards of the corpus when one process is compared with two
WHOLE_BYTES = 1_000_000_000  # of it then, at most


# --- what runs in a process of its own -------------------------------------------------------------------------------


@dataclass
class Clock:
    """Seconds and CPU seconds of this process and of its children that have ended, between enter and exit."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __enter__(self) -> Clock:
        self.wall_s, self.cpu_s = -time.perf_counter(), -cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s += time.perf_counter()
        self.cpu_s += cpu_seconds()


def cpu_seconds() -> float:
    """Of this process and its children so far."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


class MegatronEncoder:
    """What tools/preprocess_data.py does in each worker: json.loads, the tokenizer, end-of-document."""

    def __init__(self, model: str) -> None:
        self.model = model

    def start(self) -> None:
        global _processor
        import sentencepiece

        _processor = sentencepiece.SentencePieceProcessor(model_file=self.model)

    def encode(self, line: str) -> tuple[dict, dict, int]:
        ids = _processor.encode(json.loads(line)[FIELD])
        ids.append(_processor.eos_id())
        return {FIELD: ids}, {FIELD: [len(ids)]}, len(line)


def run_megatron(corpus: Path, model: Path, out: Path) -> Clock:
    """The loop of tools/preprocess_data.py with one worker."""
    import multiprocessing

    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    encoder = MegatronEncoder(str(model))
    dtype = DType.optimal_dtype(load_tokenizer(model).vocab_size)
    with Clock() as clock:
        pool = multiprocessing.get_context("fork").Pool(1, initializer=encoder.start)
        with open(corpus, encoding="utf-8") as lines:
            builder = IndexedDatasetBuilder(str(out / "shard_00000.bin"), dtype=dtype)
            for document, lengths, _ in pool.imap(encoder.encode, lines, 32):
                builder.add_document(document[FIELD], lengths[FIELD])
            builder.finalize(str(out / "shard_00000.idx"))
        pool.close()
        pool.join()
    return clock


def run_datatrove(corpus: Path, model: Path, out: Path) -> Clock:
    """datatrove's pipeline with the same vocabulary in a tokenizer.json (its ids are not sentencepiece's)."""
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import MegatronDocumentTokenizer

    tokenizer_json = out / "tokenizer.json"
    _as_tokenizer_json(model, tokenizer_json)
    reader = JsonlReader(str(corpus.parent), glob_pattern=corpus.name, text_key=FIELD, id_key="none")
    writer = MegatronDocumentTokenizer(str(out / "dt"), tokenizer_name_or_path=str(tokenizer_json), eos_token="</s>")
    with Clock() as clock:
        writer.run(reader.run(rank=0, world_size=1), rank=0, world_size=1)
    return clock


def _as_tokenizer_json(model: Path, target: Path) -> None:
    import sentencepiece
    from tokenizers import Tokenizer, decoders, models, normalizers

    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    vocabulary = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.vocab_size())]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=processor.unk_id(), byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Replace("\u2581", " ")
    tokenizer.save(str(target))


def run_ours(corpus: Path, model: Path, out: Path) -> Clock:
    """One shard by one process that is ready."""
    from data_prep import binarize as module
    from data_prep.encode import make_encoder

    tokenizer = load_tokenizer(model)
    kind = "parquet" if corpus.suffix == ".parquet" else "jsonl"
    spec = SourceSpec(name="c", kind=kind, paths=(str(corpus),), field=FIELD, heldout_frac=0.0)
    plan = module.make_plan(spec, tokenizer=tokenizer, data_dir=out, shard_bytes=corpus.stat().st_size + 1)
    encoder = make_encoder(tokenizer)
    with Clock() as clock:
        module.write_shard(plan, 0, encoder=encoder, advance=lambda _: None)
        module.finish(plan)
    return clock


def run_workers(corpus: Path, model: Path, out: Path, *, workers: int) -> Clock:
    """The whole job, start included, as ``windtunnel tokenize`` does it."""
    from data_prep.binarize import binarize

    spec = SourceSpec(name="c", paths=(str(corpus),), field=FIELD, heldout_frac=0.0)
    shard_bytes = corpus.stat().st_size // PARTS + 1
    with Clock() as clock:
        binarize(spec, tokenizer=load_tokenizer(model), data_dir=out, workers=workers, shard_bytes=shard_bytes)
    return clock


RUN: dict[str, Callable[[Path, Path, Path], Clock]] = {
    "megatron": run_megatron,
    "datatrove": run_datatrove,
    "plain": run_ours,
    "fast": run_ours,
    **{f"fast{suffix}": run_ours for suffix in FORMATS},
    "one": lambda corpus, model, out: run_workers(corpus, model, out, workers=1),
    "two": lambda corpus, model, out: run_workers(corpus, model, out, workers=2),
}


def child(name: str, corpus: Path, model: Path, out: Path) -> None:
    """Runs one contender here and prints seconds, CPU seconds of all its processes, and peak memory of any."""
    clock = RUN[name](corpus, model, out)
    own_kb = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])  # ru_maxrss begins at the parent's
    peak_kb = max(own_kb, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    print(json.dumps(asdict(clock) | {"peak_mb": peak_kb * 1024 / 1e6}))


# --- what drives them ------------------------------------------------------------------------------------------------


def python_files() -> Iterator[bytes]:
    """The text files of this Python as JSON lines."""
    roots = sorted({Path(sys.prefix) / "lib", Path(os.__file__).parent})
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".txt", ".md", ".rst", ".pyi", ".html") and path.is_file():
                try:
                    text = path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue
                if text:
                    yield orjson.dumps({"file": path.name, FIELD: text}) + b"\n"


def corpus_lines(corpus: Path | None, *, field: str) -> Iterator[bytes]:
    """The usable records of all JSON-lines files below a folder (.gz and .zst too), their text under ``FIELD``."""
    if corpus is None:
        yield from python_files()
        return
    for path in expand(SourceSpec(name="corpus", paths=(str(corpus),)), suffixes=SUFFIXES):
        for _, block in line_blocks(path, start=0, end=1 << 62, block_bytes=1 << 20):
            for line in block.splitlines():
                yield from _usable(line, field=field)


def size_bytes(corpus: Path | None) -> int:
    """Bytes of a folder's files as they lie there; without a folder, enough."""
    return 1 << 40 if corpus is None else sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file())


def _usable(line: bytes, *, field: str) -> Iterator[bytes]:
    """The line if it is a record with a text; Megatron's loop would stop at any other."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return
    if isinstance(value, dict) and isinstance(value.get(field), str) and value[field]:
        yield (line if field == FIELD else orjson.dumps({FIELD: value[field]})) + b"\n"


def slices(lines: Iterator[bytes], *, count: int, slice_bytes: int, folder: Path) -> list[Path]:
    """``count`` files of about ``slice_bytes``, of different text; fewer and smaller ones where there is not that much."""
    made = []
    for number in range(count):
        path, written = folder / f"slice_{number}.jsonl", 0
        with open(path, "wb") as file:
            for line in lines:
                file.write(line)
                written += len(line)
                if written >= slice_bytes:
                    break
        if written >= slice_bytes // 2 or (written and not made):
            made.append(path)
        if written < slice_bytes:
            break
    return made


def compressed(corpus: Path, suffix: str) -> Path:
    """The slice in another format, as common tools write it: gzip -6, zstd -3, Parquet with zstd."""
    path = corpus.with_name(f"{corpus.name}{suffix}")
    if path.exists():
        return path
    if suffix == ".gz":
        path.write_bytes(gzip.compress(corpus.read_bytes(), 6))
    elif suffix == ".zst":
        path.write_bytes(zstandard.compress(corpus.read_bytes(), 3))
    else:
        texts = [orjson.loads(line)[FIELD] for line in corpus.read_bytes().splitlines()]
        pyarrow.parquet.write_table(pyarrow.table({FIELD: texts}), path, compression="zstd")
    return path


def measure(name: str, corpus: Path, model: Path, out: Path) -> dict[str, float] | None:
    """One run in a fresh process; None where the contender is not installed."""
    out.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.bench.bench_data", "--child", name, str(corpus), str(model), str(out)]
    native = "0" if name == "plain" else "1"
    env = os.environ | {"WINDTUNNEL_NATIVE": native, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_rounds(parts: list[Path], model: Path, names: list[str], folder: Path) -> dict[str, list[dict[str, float]]]:
    """All contenders on each slice, in an order that turns with the round."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number, corpus in enumerate(parts):
        outs = {name: folder / f"round_{number}" / name for name in names}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            suffix = name.removeprefix("fast")
            given = compressed(corpus, suffix) if suffix in FORMATS else corpus
            if (seconds := measure(name, given, model, outs[name])) is not None:
                results[name].append(seconds | {"mb": corpus.stat().st_size / 1e6})
        right = outs[names[0]]
        for name in names[1:]:
            if name != "datatrove" and outs[name].is_dir() and not same_bytes(right, outs[name]):
                raise SystemExit(f"round {number}: {name}'s bytes are not those of {names[0]}")
        subprocess.run(["rm", "-r", str(folder / f"round_{number}")], check=True)
    return results


def same_bytes(right: Path, ours: Path) -> bool:
    """Whether two folders have the same shards."""
    shards = [sorted(folder.rglob("shard_*.bin")) + sorted(folder.rglob("shard_*.idx")) for folder in (right, ours)]
    return len(shards[0]) == len(shards[1]) > 0 and all(a.read_bytes() == b.read_bytes() for a, b in zip(*shards, strict=True))


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Medians (least to most) of paired ratios as a Markdown table; ratios are against the first row."""
    base = next(iter(results.values()))
    lines = ["| | MB/s | MB/CPU-s | wall ratio | per core (CPU time) | peak MB a process |", "|---|---|---|---|---|---|"]
    for name, runs in results.items():
        if not runs:
            lines.append(f"| {name} | not installed | | | | |")
            continue
        ratios = [spread([b[key] / r[key] for b, r in zip(base, runs, strict=True)]) for key in ("wall_s", "cpu_s")]
        speeds = [f"{statistics.median(r['mb'] / r[key] for r in runs):.1f}" for key in ("wall_s", "cpu_s")]
        lines.append(f"| {' | '.join([name, *speeds, *ratios])} | {max(r['peak_mb'] for r in runs):.0f} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def bench_tokenizer(chosen: str, corpus: Path | None, lines: Iterator[bytes], *, folder: Path) -> Path:
    """The model to use: the one given, or one trained on the corpus's beginning, which no round sees."""
    if chosen:
        return load_tokenizer(chosen).path
    sample_bytes = min(TRAIN_BYTES, size_bytes(corpus) // 4)

    def texts() -> Iterator[str]:
        left = sample_bytes
        for line in lines:
            left -= len(line)
            yield orjson.loads(line)[FIELD]
            if left <= 0:
                return

    vocab_size = max(1000, min(32_000, sample_bytes // 500))
    return train_unigram(texts(), out_dir=folder / "tokenizer", vocab_size=vocab_size).path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder of JSON-lines files")
    parser.add_argument("--field", default=FIELD, help="key of the text")
    parser.add_argument("--tokenizer", default="", help="a SentencePiece model; trained on the corpus where absent")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice-mb", type=float, default=50)
    parser.add_argument("--only", default=",".join((*CONTENDERS, *WORKERS)), help="contenders, by comma")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, corpus, model, out = arguments.child
        child(name, Path(corpus), Path(model), Path(out))
        return
    only = arguments.only.split(",")
    with tempfile.TemporaryDirectory(prefix="bench_data.") as scratch:
        folder, lines = Path(scratch), corpus_lines(arguments.corpus, field=arguments.field)
        model = bench_tokenizer(arguments.tokenizer, arguments.corpus, lines, folder=folder)
        share_bytes = size_bytes(arguments.corpus) * 3 // 4 // arguments.rounds  # the tokenizer took a quarter at most
        slice_bytes = min(int(arguments.slice_mb * 1e6), share_bytes)
        parts = slices(lines, count=arguments.rounds, slice_bytes=slice_bytes, folder=folder)
        if not parts:
            raise SystemExit(f"{arguments.corpus}: no record with a text in {arguments.field!r} beyond what the tokenizer took")
        report_contenders(parts, model, only=only, folder=folder)
        if "two" in only:
            report_workers(corpus_lines(arguments.corpus, field=arguments.field), model, folder=folder, rounds=arguments.rounds)


def report_contenders(parts: list[Path], model: Path, *, only: list[str], folder: Path) -> None:
    """Every way to make a shard, on each slice."""
    size_mb, pieces = sum(part.stat().st_size for part in parts) / 1e6, load_tokenizer(model).vocab_size
    names = [name for name in CONTENDERS if name == RATIO_TO or name in only]
    if len(names) > 1:
        print(f"{len(parts)} rounds, {size_mb:.0f} MB of JSON lines in all, {pieces} pieces")
        print(table(run_rounds(parts, model, names, folder)))
        print("Every output was byte-identical to that of Megatron's builder (datatrove's ids are its own).\n")


def report_workers(lines: Iterator[bytes], model: Path, *, folder: Path, rounds: int) -> None:
    """Two processes against one on all of the text, and on one document."""
    document = folder / "document.jsonl"
    document.write_bytes(next(lines))
    whole = slices(lines, count=1, slice_bytes=WHOLE_BYTES, folder=folder)[0]
    results = run_rounds([whole] * rounds, model, list(WORKERS), folder)
    runs_of_one = run_rounds([document] * rounds, model, list(WORKERS), folder)
    start = {name: statistics.median(run["wall_s"] for run in runs) for name, runs in runs_of_one.items()}
    size_mb = whole.stat().st_size / 1e6
    print(f"Two processes against one: {rounds} rounds of {size_mb:.0f} MB in {PARTS} shards, start included")
    print(table(results))
    without = [
        (one["wall_s"] - start["one"]) / (two["wall_s"] - start["two"])
        for one, two in zip(results["one"], results["two"], strict=True)
    ]
    print(f"Without the start ({start['one']:.2f} s, {start['two']:.2f} s): wall ratio {spread(without)}")


if __name__ == "__main__":
    main()
