"""Deduplication: how much it finds on a planted corpus, and how fast it is beside datatrove's MinHash, in paired rounds.

    python -m tests.bench.bench_dedup [--rounds 5] [--documents 4000] [--skip-speed]

Both read the same JSON lines with one process, from cold, texts that no earlier round has seen, with 14 bands of 8 rows on
5-grams; datatrove runs its four steps (signatures, buckets, clusters, filter) in this process, with its fastest word splitter
(white space; its default, spaCy, is slower). CPU seconds; imports aren't counted.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from data_prep.dedup.run import Settings, deduplicate
from data_prep.sources import SourceSpec, documents
from tests.data_prep.dedup.planted import KINDS, plant, true_jaccard

METHODS = {
    "minhash (default)": Settings(),
    "simhash, 3 bits": Settings(method="simhash"),
    "simhash, 6 bits": Settings(method="simhash", simhash_bits=6),
}


def corpus() -> list[str]:
    """Documentation and source of this Python."""
    return [
        document.text
        for what in ("docs", "stdlib_code")
        for document in documents(SourceSpec(name=what, kind="python", what=what, paths=("stdlib",)))
    ]


def write(path: Path, texts: list[str]) -> SourceSpec:
    """The texts as JSON lines, and the source that reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "id": str(n)}) + "\n" for n, text in enumerate(texts)), encoding="utf-8")
    return SourceSpec(name="bench", paths=(str(path),))


def quality(folder: Path) -> dict[str, dict[str, float]]:
    """Recall by kind over pairs of true similarity >= 0.85, and precision over all that is dropped."""
    planted = plant(corpus(), per_kind=400, seed=0)
    spec = write(folder / "planted.jsonl", planted.texts)
    place = {document.id: number for number, document in enumerate(documents(spec))}
    table = {}
    for name, settings in METHODS.items():
        outcome = deduplicate([spec], data_dir=folder / "planted", settings=settings)
        lines = map(json.loads, Path(outcome["dropped"]).read_text().splitlines())
        kept = {place[line["id"]]: place[line["kept"]] for line in lines}
        found: dict[str, list[bool]] = defaultdict(list)
        for left, right, kind, similarity in planted.pairs:
            if similarity >= 0.85:
                for key in (kind, "all"):
                    found[key].append(kept.get(left, left) == kept.get(right, right))
        family, texts = planted.family, planted.texts
        good = [family[a] == family[b] or true_jaccard(texts[a], texts[b]) >= 0.8 for a, b in kept.items()]
        table[name] = {key: statistics.mean(hits) for key, hits in found.items()} | {"precision": statistics.mean(good)}
    return table


def synthetic(count: int, seed: int, words: list[str]) -> list[str]:
    """Documents of 100 to 900 words drawn from real ones, a fifth of them edited copies: unseen in every round."""
    rng = random.Random(seed)
    texts = [rng.choices(words, k=rng.randint(100, 900)) for _ in range(count * 4 // 5)]
    for text in texts[: count // 5]:
        copy = list(text)
        copy[rng.randrange(len(copy))] = "changed"
        texts.append(copy)
    rng.shuffle(texts)
    return [" ".join(text) for text in texts]


def run_datatrove(source: Path, folder: Path) -> None:
    """datatrove's four MinHash steps, one task, here."""
    import datatrove.utils.hashes.xxhash
    import xxhash
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.word_tokenizers import WhitespaceTokenizer

    # datatrove hands text to xxhash, which takes bytes only since its version 4
    datatrove.utils.hashes.xxhash.xxhash64 = lambda data: xxhash.xxh64_intdigest(data.encode())
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    names = {name: str(folder / name) for name in ("signatures", "buckets", "remove", "out")}
    data = JsonlReader(str(source.parent), glob_pattern=source.name).run(rank=0, world_size=1)
    MinhashDedupSignature(output_folder=names["signatures"], config=config, language=WhitespaceTokenizer()).run(
        data, rank=0, world_size=1
    )
    for bucket in range(config.num_buckets):
        step = MinhashDedupBuckets(input_folder=names["signatures"], output_folder=names["buckets"], config=config)
        step.run(None, rank=bucket, world_size=config.num_buckets)
    MinhashDedupCluster(input_folder=names["buckets"], output_folder=names["remove"], config=config).run(None, 0, 1)
    data = JsonlReader(str(source.parent), glob_pattern=source.name).run(rank=0, world_size=1)
    kept = MinhashDedupFilter(input_folder=names["remove"]).run(data, rank=0, world_size=1)
    for _ in JsonlWriter(names["out"], compression=None).run(kept, rank=0, world_size=1):
        pass


def speed(folder: Path, *, rounds: int, count: int) -> dict[str, Any]:
    """Documents a second of both, and the median of their paired ratios; the first of both changes from round to round."""
    words = sorted({word for text in corpus()[:300] for word in text.split() if word.isalpha()})
    run_datatrove(Path(_warm(folder, words).paths[0]), folder / "warm")
    ours, theirs = [], []
    for number in range(rounds):
        spec = write(folder / f"{number}.jsonl", synthetic(count, number, words))
        steps = [
            (ours, lambda spec=spec: deduplicate([spec], data_dir=folder / "ours")),
            (theirs, lambda number=number: run_datatrove(folder / f"{number}.jsonl", folder / f"theirs{number}")),
        ]
        for seconds, step in steps[:: 1 if number % 2 else -1]:
            started = time.process_time()
            step()
            seconds.append(time.process_time() - started)
    ratios = [b / a for a, b in zip(ours, theirs)]
    return {
        "documents_per_s": round(count / statistics.median(ours)),
        "datatrove_documents_per_s": round(count / statistics.median(theirs)),
        "ratio_median": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def _warm(folder: Path, words: list[str]) -> SourceSpec:
    """A few documents for a first run of each that isn't counted (imports, tables, the word splitter's model)."""
    spec = write(folder / "warm" / "in" / "w.jsonl", synthetic(20, 10**6, words))
    deduplicate([spec], data_dir=folder / "warm" / "ours")
    return spec


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=4000, help="a round")
    parser.add_argument("--skip-speed", action="store_true")
    parser.add_argument("--skip-quality", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.skip_quality:
            columns = ("all", *KINDS, "precision")
            print("recall at true similarity >= 0.85".ljust(34) + "".join(column.rjust(11) for column in columns))
            for method, row in quality(folder).items():
                print(method.ljust(34) + "".join(f"{row[column]:11.3f}" for column in columns), flush=True)
        if not options.skip_speed:
            print(json.dumps(speed(folder, rounds=options.rounds, count=options.documents)))


if __name__ == "__main__":
    main()
