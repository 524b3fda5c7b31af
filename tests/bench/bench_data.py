"""How fast text becomes shards, against what else there is: paired ratios, each round on text that nobody has seen yet.

    python -m tests.bench.bench_data [--corpus DIR] [--tokenizer DIR] [--rounds 5] [--slice-mb 100]

Each contender runs in a fresh process on the same slice of JSON lines; imports and loading the model are not counted.
Every output is compared with Megatron's, byte for byte. Without --corpus, the text files of this Python are the corpus.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from data_prep.tokenizer import load_tokenizer, train_unigram

FIELD = "text"
RATIO_TO = "megatron"
CONTENDERS = ("megatron", "datatrove", "plain", "fast", "fast_split", "fast_2")


# --- what runs in a process of its own -------------------------------------------------------------------------------


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


def run_megatron(corpus: Path, model: Path, out: Path) -> float:
    """The loop of tools/preprocess_data.py with one worker."""
    import multiprocessing

    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    encoder = MegatronEncoder(str(model))
    dtype = DType.optimal_dtype(load_tokenizer(model).vocab_size)
    pool = multiprocessing.get_context("fork").Pool(1, initializer=encoder.start)
    started_s = time.perf_counter()
    with open(corpus, encoding="utf-8") as lines:
        builder = IndexedDatasetBuilder(str(out / "shard_00000.bin"), dtype=dtype)
        for document, lengths, _ in pool.imap(encoder.encode, lines, 32):
            builder.add_document(document[FIELD], lengths[FIELD])
        builder.finalize(str(out / "shard_00000.idx"))
    seconds = time.perf_counter() - started_s
    pool.close()
    pool.join()
    return seconds


def run_datatrove(corpus: Path, model: Path, out: Path) -> float:
    """datatrove's pipeline with the same vocabulary in a tokenizer.json (its ids are not sentencepiece's)."""
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import MegatronDocumentTokenizer

    tokenizer_json = out / "tokenizer.json"
    _as_tokenizer_json(model, tokenizer_json)
    reader = JsonlReader(str(corpus.parent), glob_pattern=corpus.name, text_key=FIELD, id_key="none")
    writer = MegatronDocumentTokenizer(str(out / "dt"), str(tokenizer_json), eos_token="</s>")
    started_s = time.perf_counter()
    writer.run(reader.run(rank=0, world_size=1), rank=0, world_size=1)
    return time.perf_counter() - started_s


def _as_tokenizer_json(model: Path, target: Path) -> None:
    import sentencepiece
    from tokenizers import Tokenizer, decoders, models, normalizers

    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    vocabulary = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.vocab_size())]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=processor.unk_id(), byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Replace("\u2581", " ")
    tokenizer.save(str(target))


def _run_ours(corpus: Path, model: Path, out: Path, *, workers: int, parts: int) -> float:
    from data_prep.binarize import binarize
    from data_prep.encode import make_encoder
    from data_prep.sources import SourceSpec

    tokenizer = load_tokenizer(model)
    spec = SourceSpec(name="c", paths=(str(corpus),), field=FIELD, heldout_frac=0.0)
    shard_bytes = corpus.stat().st_size // parts + 1
    if workers > 1:  # spawned workers load the model themselves, and that is counted
        started_s = time.perf_counter()
        binarize(spec, tokenizer=tokenizer, data_dir=out, workers=workers, shard_bytes=shard_bytes)
        return time.perf_counter() - started_s
    from data_prep import binarize as module

    plan = module.make_plan(spec, tokenizer=tokenizer, data_dir=out, shard_bytes=shard_bytes)
    encoder = make_encoder(tokenizer)
    started_s = time.perf_counter()
    for shard in range(plan.num_shards):
        module.write_shard(plan, shard, encoder=encoder, advance=lambda _: None)
    module.finish(plan)
    return time.perf_counter() - started_s


RUN: dict[str, Callable[[Path, Path, Path], float]] = {
    "megatron": run_megatron,
    "datatrove": run_datatrove,
    "plain": lambda corpus, model, out: _run_ours(corpus, model, out, workers=1, parts=1),
    "fast": lambda corpus, model, out: _run_ours(corpus, model, out, workers=1, parts=1),
    "fast_split": lambda corpus, model, out: _run_ours(corpus, model, out, workers=1, parts=8),
    "fast_2": lambda corpus, model, out: _run_ours(corpus, model, out, workers=2, parts=8),
}


def child(name: str, corpus: Path, model: Path, out: Path) -> None:
    """Runs one contender here and prints seconds, CPU seconds of all its processes, and peak memory of any."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = RUN[name](corpus, model, out)
    own_2, children_2 = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in ((own, own_2), (children, children_2)))
    peak_kb = max(own_2.ru_maxrss, children_2.ru_maxrss)
    print(json.dumps({"wall_s": seconds, "cpu_s": cpu_s, "peak_mb": peak_kb / 1000}))


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


def corpus_lines(corpus: Path | None) -> Iterator[bytes]:
    """Lines of all JSON-lines files of a folder, one after another."""
    if corpus is None:
        yield from python_files()
        return
    for path in sorted(corpus.glob("*.jsonl")):
        with open(path, "rb") as file:
            yield from file


def slices(lines: Iterator[bytes], *, count: int, size_bytes: int, folder: Path) -> list[Path]:
    """``count`` files of about ``size_bytes``, of different text."""
    made = []
    for number in range(count):
        path, written = folder / f"slice_{number}.jsonl", 0
        with open(path, "wb") as file:
            for line in lines:
                file.write(line)
                written += len(line)
                if written >= size_bytes:
                    break
        if written < size_bytes // 2:
            break
        made.append(path)
    return made


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


def same_bytes(theirs: Path, ours: Path) -> bool:
    """Whether our only shard is theirs; several parts are compared end to end (.bin)."""
    shards = sorted(ours.glob("c/*/train/shard_*.bin"))
    if b"".join(p.read_bytes() for p in shards) != (theirs / "shard_00000.bin").read_bytes():
        return False
    return len(shards) > 1 or shards[0].with_suffix(".idx").read_bytes() == (theirs / "shard_00000.idx").read_bytes()


def run_rounds(parts: list[Path], model: Path, names: list[str], folder: Path) -> dict[str, list[dict[str, float]]]:
    """All contenders on each slice, in an order that turns with the round."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number, corpus in enumerate(parts):
        outs = {name: folder / f"round_{number}" / name for name in names}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if (seconds := measure(name, corpus, model, outs[name])) is not None:
                results[name].append(seconds | {"mb": corpus.stat().st_size / 1e6})
        for name in names:
            ours = name not in ("megatron", "datatrove") and outs[name].is_dir()
            if ours and not same_bytes(outs["megatron"], outs[name]):
                raise SystemExit(f"round {number}: {name} is not byte-identical to Megatron's builder")
        subprocess.run(["rm", "-r", str(folder / f"round_{number}")], check=True)
    return results


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Medians of paired ratios as a Markdown table."""
    base = results[RATIO_TO]
    lines = [
        "| | MB/s | MB/CPU-s | wall, against Megatron's | per core (CPU time) | peak MB a process |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        if not runs:
            lines.append(f"| {name} | not installed | | | | |")
            continue
        wall = statistics.median(b["wall_s"] / r["wall_s"] for b, r in zip(base, runs, strict=True))
        cpu = [b["cpu_s"] / r["cpu_s"] for b, r in zip(base, runs, strict=True)]
        speed = statistics.median(r["mb"] / r["wall_s"] for r in runs)
        core = statistics.median(r["mb"] / r["cpu_s"] for r in runs)
        peak = max(r["peak_mb"] for r in runs)
        spread = f"{statistics.median(cpu):.2f} ({min(cpu):.1f} to {max(cpu):.1f})"
        lines.append(f"| {name} | {speed:.1f} | {core:.1f} | {wall:.2f} | {spread} | {peak:.0f} |")
    if results.get("fast_2") and results.get("fast_split"):
        two = statistics.median(
            a["wall_s"] / b["wall_s"] for a, b in zip(results["fast_split"], results["fast_2"], strict=True)
        )
        lines.append(f"\nTwo processes against one, same shards: {two:.2f}")
    return "\n".join(lines)


def bench_tokenizer(chosen: str, lines: Iterator[bytes], *, vocab_size: int, folder: Path) -> Path:
    """The model to use: the one given, or one trained on the corpus's first 20 MB."""
    if chosen:
        return load_tokenizer(chosen).path

    def texts() -> Iterator[str]:
        left = 20_000_000
        for line in lines:
            left -= len(line)
            yield orjson.loads(line)[FIELD]
            if left <= 0:
                return

    return train_unigram(texts(), out_dir=folder / "tokenizer", vocab_size=vocab_size).path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder of .jsonl files with a field 'text'")
    parser.add_argument("--tokenizer", default="", help="a SentencePiece model; trained on the corpus where absent")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice-mb", type=float, default=100)
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, by comma")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, corpus, model, out = arguments.child
        child(name, Path(corpus), Path(model), Path(out))
        return
    names = list(dict.fromkeys([RATIO_TO, *arguments.only.split(",")]))
    with tempfile.TemporaryDirectory(prefix="bench_data.") as scratch:
        folder, lines = Path(scratch), corpus_lines(arguments.corpus)
        model = bench_tokenizer(arguments.tokenizer, lines, vocab_size=arguments.vocab_size, folder=folder)
        parts = slices(lines, count=arguments.rounds, size_bytes=int(arguments.slice_mb * 1e6), folder=folder)
        print(
            f"{len(parts)} rounds of {arguments.slice_mb:g} MB of JSON lines, {load_tokenizer(model).vocab_size} pieces",
            file=sys.stderr,
        )
        print(table(run_rounds(parts, model, names, folder)))
        print("\nEvery output was byte-identical to Megatron's (datatrove's ids are its own).")


if __name__ == "__main__":
    main()
