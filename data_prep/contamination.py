"""Documents that share 13-grams with evaluation sets: listed by benchmark and, if wanted, dropped before tokenizing.

Both sides are compared before rendering: of an evaluation item every text (question, choices, answer) by itself and all joined;
of instruction data prompt and answer. An item of 8 to 12 tokens matches where all of it occurs in a row, a shorter one
where it is the whole document: "What is 2+2?" in passing is no leak. 13 is the length of GPT-3's report (arXiv 2005.14165,
appendix C).

``contamination([SourceSpec(...)], against=["evals/"], data_dir="data")``
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.atomic import replacing, write_json
from data_prep.dedup.corpus import UNIT_BYTES, Unit, fingerprint, text_blocks, units
from data_prep.dedup.drops import id_hash, write_drops
from data_prep.dedup.pool import each
from data_prep.dedup.shingles import combined, normalized, token_bounds, tokens
from data_prep.errors import DataError
from data_prep.sources import SourceSpec, jsonl
from data_prep.sources.files import expand
from data_prep.sources.spec import Piece, Reject

GRAM = 13
MIN_RUN = 8  # tokens of an item that match inside a longer document
SUFFIXES = (*jsonl.SUFFIXES, ".parquet")
# Fields that name an item rather than ask something; --field takes others, or fewer.
NO_TEXT = frozenset(
    {"id", "_id", "idx", "index", "label", "split", "source", "source_id", "category", "subject", "task", "dataset"}
)
MAX_ITEMS = 20  # of one benchmark that a hit names: more share a passage or a template
_FILTER_BITS = 24  # of a table that says "surely not" to nearly all grams of a corpus, at one look


@dataclass(frozen=True)
class EvalIndex:
    """The grams of all evaluation items.

    Attributes:
        grams: Sorted hashes by gram size, one for each item that has it. uint64
        items: The item of each.
        names: Benchmark and number of each item.
        benchmarks: Items of each benchmark.
        tables: Which leading bits occur, made when first needed (16 MB a size).
    """

    grams: dict[int, np.ndarray]
    items: dict[int, np.ndarray]
    names: list[tuple[str, int]]
    benchmarks: dict[str, int]
    tables: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def matches(self, size: int, hashes: np.ndarray) -> np.ndarray:
        """Positions of the hashes that are an item's; int64, ascending."""
        known = self.grams[size]
        shift = np.uint64(64 - _FILTER_BITS)
        if size not in self.tables:
            self.tables[size] = np.zeros(1 << _FILTER_BITS, dtype=bool)
            self.tables[size][known >> shift] = True
        maybe = np.flatnonzero(self.tables[size][hashes >> shift])
        places = np.minimum(np.searchsorted(known, hashes[maybe]), len(known) - 1)
        return maybe[known[places] == hashes[maybe]]

    def sharing(self, size: int, value: np.uint64) -> dict[str, list[int]]:
        """Items that have a gram, by benchmark, at most MAX_ITEMS each."""
        low, high = np.searchsorted(self.grams[size], value, "left"), np.searchsorted(self.grams[size], value, "right")
        found: dict[str, list[int]] = {}
        for item in self.items[size][low:high].tolist():
            benchmark, number = self.names[item]
            if len(numbers := found.setdefault(benchmark, [])) < MAX_ITEMS:
                numbers.append(number)
        return found


def build_index(paths: Sequence[str], *, fields: Sequence[str] = ()) -> EvalIndex:
    """Reads evaluation sets: JSONL (.gz, .zst) or Parquet files, each a benchmark named by its file.

    Args:
        paths: Files, folders or patterns.
        fields: Keys whose texts count; all but NO_TEXT where empty.

    Raises:
        DataError: No file, a file that can't be read, a benchmark without text.
    """
    names: list[tuple[str, int]] = []
    benchmarks: dict[str, int] = {}
    found: dict[int, list[tuple[int, int]]] = {}
    for path in expand(SourceSpec(name="evaluation sets", paths=tuple(paths)), suffixes=SUFFIXES):
        benchmark = path.name.removesuffix(next((s for s in SUFFIXES if path.name.endswith(s)), path.suffix))
        if benchmark in benchmarks:
            raise DataError(f"contamination: two evaluation sets are called {benchmark!r}; rename {path}")
        before = len(names)
        for number, row in enumerate(_rows(path), start=1):
            texts = item_texts(row, fields)
            names.append((benchmark, number))
            for size, value in _item_grams(texts):
                found.setdefault(size, []).append((value, len(names) - 1))
        benchmarks[benchmark] = len(names) - before
        if not any(item >= before for pairs in found.values() for _, item in pairs):
            raise DataError(f"contamination: {path} has no text in {', '.join(fields) or 'any field'}")
    grams, items = {}, {}
    for size, pairs in found.items():
        rows = np.unique(np.array(pairs, dtype=np.uint64), axis=0)
        grams[size], items[size] = np.ascontiguousarray(rows[:, 0]), rows[:, 1].astype(np.int64)
    return EvalIndex(grams, items, names, benchmarks)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1024, use_threads=False):
            yield from batch.to_pylist()
        return
    for item in jsonl.records(SourceSpec(name=path.name), Piece(str(path), 0, 1 << 62, 0)):
        if isinstance(item, Reject):
            raise DataError(f"{item.file}:{item.line}: {item.why}")
        yield item[2]


def item_texts(row: dict[str, Any], fields: Sequence[str] = ()) -> list[str]:
    """The texts of an evaluation item in the order of its keys, lists and nested objects opened."""
    chosen = [value for key, value in row.items() if (key in fields if fields else key not in NO_TEXT)]
    return list(_strings(chosen))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            if key not in NO_TEXT:
                yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)


def _item_grams(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(gram size, hash) of an item; what is shorter than MIN_RUN is looked for as a whole document only (size GRAM)."""
    whole = "\n".join(texts)
    for text in dict.fromkeys((*texts, whole)):
        found = tokens([text])
        num_tokens = len(found.hashes)
        if num_tokens >= MIN_RUN or (text == whole and num_tokens):
            for value in combined(found, GRAM).hashes.tolist():
                yield GRAM, value
        if MIN_RUN <= num_tokens < GRAM:
            yield num_tokens, int(combined(found, num_tokens).hashes[0])


def contamination(
    specs: Sequence[SourceSpec],
    *,
    against: Sequence[str],
    data_dir: Path | str,
    fields: Sequence[str] = (),
    drop: bool = False,
    workers: int = 1,
    unit_bytes: int = UNIT_BYTES,
) -> dict[str, Any]:
    """Lists the documents that share grams with evaluation sets, and returns the report.

    Args:
        specs: The training sources.
        against: Evaluation sets: files, folders or patterns.
        data_dir: The list goes to ``<data_dir>/contamination/<key>/hits.jsonl``, drop lists to ``<data_dir>/<source>/``.
        fields: Keys of evaluation items that count.
        drop: Write drop lists, so that tokenizing leaves these documents out; without it an earlier list is removed.
        workers: Processes.
        unit_bytes: Input that a worker reads at a time.

    Raises:
        DataError: A source or an evaluation set can't be read.
    """
    index = build_index(against, fields=fields)
    all_units = units(specs, unit_bytes=unit_bytes)
    digest = hashlib.sha256(b"".join(index.grams[size].tobytes() for size in sorted(index.grams))).hexdigest()
    folder = Path(data_dir) / "contamination" / fingerprint(all_units, {"evaluation": digest, "format": 1})
    parts = [folder / "units" / f"unit_{number:05d}.jsonl" for number in range(len(all_units))]
    sizes = [unit.piece.size_bytes for unit in all_units]
    each(
        scan_unit,
        [(unit, index, path) for unit, path in zip(all_units, parts)],
        workers=workers,
        label="contamination",
        sizes=sizes,
    )
    return _report(folder, parts, all_units, index, specs, data_dir=data_dir, drop=drop)


def scan_unit(unit: Unit, index: EvalIndex, path: Path) -> None:
    """Writes the hits of one unit, a line each, unless they are there; the last line counts its documents."""
    if path.exists():
        return
    num_documents = 0
    with replacing(path) as file:
        for ids, texts in text_blocks(unit):
            num_documents += len(ids)
            for hit in _block_hits(ids, texts, index):
                file.write(json.dumps({"source": unit.spec.name} | hit, ensure_ascii=True).encode() + b"\n")
        file.write(json.dumps({"num_documents": num_documents}).encode() + b"\n")


def _block_hits(ids: Sequence[str], texts: Sequence[str], index: EvalIndex) -> Iterator[dict[str, Any]]:
    """A hit for each document and benchmark item."""
    found = tokens(texts)
    seen: set[tuple[int, str, int]] = set()
    for size in sorted(index.grams, reverse=True):
        grams = combined(found, size)
        for position in index.matches(size, grams.hashes).tolist():
            text = int(np.searchsorted(grams.bounds, position, "right")) - 1
            for benchmark, items in index.sharing(size, grams.hashes[position]).items():
                if (text, benchmark, items[0]) not in seen:
                    seen.add((text, benchmark, items[0]))
                    excerpt = _excerpt(texts[text], position - int(grams.bounds[text]), size)
                    yield {"id": ids[text], "benchmark": benchmark, "items": items, "shared": excerpt}


def _excerpt(text: str, gram: int, size: int) -> str:
    """The text of one gram, as it is compared."""
    data = normalized(text).encode("utf-8", "surrogatepass")
    starts, ends = token_bounds(np.frombuffer(data + b"\n", dtype=np.uint8))
    last = min(gram + size, len(starts)) - 1
    return data[int(starts[gram]) : int(ends[last])].decode("utf-8", "replace")


def _report(
    folder: Path, parts: Sequence[Path], all_units: Sequence[Unit], index: EvalIndex, specs: Sequence[SourceSpec], *,
    data_dir: Path | str, drop: bool,
) -> dict[str, Any]:  # fmt: skip
    """Gathers the units' hits into ``hits.jsonl`` and counts them by benchmark and source."""
    sources = {name: {"documents": 0, "hit": 0} for name in sorted(spec.name for spec in specs)}
    hit_ids: dict[str, set[int]] = {name: set() for name in sources}
    items: dict[str, set[int]] = {name: set() for name in index.benchmarks}
    documents: dict[str, set[tuple[str, int]]] = {name: set() for name in index.benchmarks}
    with replacing(folder / "hits.jsonl") as file:
        for unit, part in zip(all_units, parts):
            for line in part.read_bytes().splitlines():
                hit = json.loads(line)
                if "num_documents" in hit:
                    sources[unit.spec.name]["documents"] += hit["num_documents"]
                    continue
                file.write(line + b"\n")
                key = id_hash(hit["id"])
                hit_ids[hit["source"]].add(key)
                items[hit["benchmark"]].update(hit["items"])
                documents[hit["benchmark"]].add((hit["source"], key))
    for name, hashes in hit_ids.items():
        sources[name]["hit"] = len(hashes)
        write_drops(data_dir, name, by="contamination", hashes=np.array(sorted(hashes) if drop else [], dtype=np.uint64))
    benchmarks = {
        name: {"items": count, "items_hit": len(items[name]), "documents": len(documents[name])}
        for name, count in index.benchmarks.items()
    }
    outcome = {
        "format": 1,
        "gram": GRAM,
        "dropped": drop,
        "benchmarks": benchmarks,
        "sources": sources,
        "hits": str(folder / "hits.jsonl"),
    }
    write_json(folder / "report.json", outcome)
    return outcome
