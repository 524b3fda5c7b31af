"""What goes and why: one document of each group is kept; the others are listed, counted, and put into drop lists."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from data_prep.atomic import replacing, write_json
from data_prep.dedup.corpus import Unit
from data_prep.dedup.drops import id_hash, write_drops
from data_prep.dedup.scan import DIGESTS, NUM_GRAMS, SIMHASHES
from data_prep.dedup.scanned import Scanned
from data_prep.dedup.unionfind import UnionFind
from data_prep.dedup.verify import jaccard
from data_prep.sources import SourceSpec

REPORT, DROPPED = "report.json", "dropped.jsonl"
STEP = 1 << 20  # documents handled at a time
NUM_LARGEST = 20  # groups named in the report


def read(folder: Path, data_dir: Path | str, specs: Sequence[SourceSpec]) -> dict[str, Any] | None:
    """The report of a deduplication that is done, its drop lists put in place again; None if it isn't done."""
    if not (folder / REPORT).exists():
        return None
    for spec in specs:
        write_drops(data_dir, spec.name, by="dedup", hashes=np.load(folder / f"drop-{_safe(spec.name)}.npy"))
    return json.loads((folder / REPORT).read_text(encoding="utf-8"))


def write(
    folder: Path,
    data_dir: Path | str,
    specs: Sequence[SourceSpec],
    *,
    scanned: Scanned,
    units: Sequence[Unit],
    first: np.ndarray,
    union: UnionFind,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Chooses what is kept, writes ``dropped.jsonl``, the drop lists and ``report.json``, and returns the latter."""
    kept = choose(folder, scanned, units=units, first=first, union=union, prefer=settings["prefer"])
    names = [unit.spec.name for unit in units]
    tally = {spec.name: _empty_counts() for spec in sorted(specs, key=lambda spec: spec.name)}
    flows: dict[tuple[str, str, str], int] = {}
    hashes = {name: array("Q") for name in tally}
    sizes = np.memmap(folder / "sizes.bin", dtype=np.uint32, mode="w+", shape=(max(scanned.num_documents, 1),))
    for unit, name in enumerate(names):
        tally[name]["documents"] += int(scanned.bases[unit + 1] - scanned.bases[unit])
        tally[name]["grams"] += int(scanned.column(unit, NUM_GRAMS).sum(dtype=np.int64))
    with replacing(folder / DROPPED) as file:
        for line in _dropped(scanned, names, first=first, kept=kept, method=settings["method"]):
            counts, number = tally[line["source"]], line.pop("number")
            sizes[line.pop("kept_number")] += 1
            counts[f"{line['why']}_{'within' if line['source'] == line['kept_source'] else 'across'}"] += 1
            counts["grams_dropped"] += int(scanned.gather(NUM_GRAMS, np.array([number]))[0])
            flow = (line["source"], line["kept_source"], line["why"])
            flows[flow] = flows.get(flow, 0) + 1
            hashes[line["source"]].append(id_hash(line["id"]))
            file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    for name, values in hashes.items():
        np.save(folder / f"drop-{_safe(name)}.npy", np.unique(np.array(values, dtype=np.uint64)))
        write_drops(data_dir, name, by="dedup", hashes=np.array(values, dtype=np.uint64))
    outcome = {
        "format": 1,
        "settings": settings | {"prefer": list(settings["prefer"])},
        "num_documents": scanned.num_documents,
        "num_dropped": sum(flows.values()),
        "sources": tally,
        "flows": [{"source": a, "kept_source": b, "why": why, "documents": n} for (a, b, why), n in sorted(flows.items())],
        "largest_groups": _largest(sizes, scanned, names),
        "dropped": str(folder / DROPPED),
    }
    write_json(folder / REPORT, outcome)
    return outcome


def choose(
    folder: Path, scanned: Scanned, *, units: Sequence[Unit], first: np.ndarray, union: UnionFind, prefer: Sequence[str]
) -> np.ndarray:
    """For each document the one that is kept of its group: of the most wanted source, then of the least digest.

    So the choice depends on contents, not on the order of files or lines. uint64 [num_documents], mapped
    """
    count = max(scanned.num_documents, 1)
    ranks = [prefer.index(unit.spec.name) if unit.spec.name in prefer else len(prefer) for unit in units]
    best, chosen = (np.memmap(folder / name, dtype=np.uint64, mode="w+", shape=(count,)) for name in ("best.bin", "chosen.bin"))
    for column in (best, chosen):
        for start in range(0, count, STEP):
            column[start : start + STEP] = np.iinfo(np.uint64).max
    for low_bits in (False, True):  # by rank and digest; then, of those that are equal in it, the least number
        for unit, numbers in _stretches(scanned):
            alone = first[numbers] == numbers
            numbers = numbers[alone]
            digests = scanned.column(unit, DIGESTS)[numbers - np.uint64(scanned.bases[unit]), 0]
            value = (np.uint64(min(ranks[unit], 255)) << np.uint64(56)) | (digests >> np.uint64(8))
            roots = union.roots(numbers)
            if not low_bits:
                np.minimum.at(best, roots, value)
            else:
                equal = best[roots] == value
                np.minimum.at(chosen, roots[equal], numbers[equal])
    kept = np.memmap(folder / "kept.bin", dtype=np.uint64, mode="w+", shape=(count,))
    for _, numbers in _stretches(scanned):
        kept[numbers] = chosen[union.roots(first[numbers])]
    return kept


def _stretches(scanned: Scanned) -> Iterator[tuple[int, np.ndarray]]:
    """(unit, document numbers) in parts of at most STEP."""
    for unit, (base, end) in enumerate(zip(scanned.bases[:-1].tolist(), scanned.bases[1:].tolist())):
        for start in range(base, end, STEP):
            yield unit, np.arange(start, min(end, start + STEP), dtype=np.uint64)


def _dropped(
    scanned: Scanned, names: Sequence[str], *, first: np.ndarray, kept: np.ndarray, method: str
) -> Iterator[dict[str, Any]]:
    """A line for each document that goes."""
    for unit, numbers in _stretches(scanned):
        gone = numbers[kept[numbers] != numbers].astype(np.int64)
        for number, keeper, leader in zip(gone.tolist(), kept[gone].tolist(), first[gone].tolist()):
            exact = leader == keeper
            line: dict[str, Any] = {
                "number": number,
                "kept_number": keeper,
                "source": names[unit],
                "id": scanned.identity(number),
                "kept_source": names[scanned.unit_of(keeper)],
                "kept": scanned.identity(keeper),
                "why": "exact" if exact else "near",
            }
            if not exact and method == "minhash":  # may be below the limit where others link the two
                line["jaccard"] = round(jaccard(scanned.grams(leader), scanned.grams(keeper)), 4)
            elif not exact:
                values = scanned.gather(SIMHASHES, np.array([leader, keeper]))
                line["differing_bits"] = int(values[0] ^ values[1]).bit_count()
            yield line


def _largest(sizes: np.ndarray, scanned: Scanned, names: Sequence[str]) -> list[dict[str, Any]]:
    top = np.zeros(0, dtype=np.int64)
    for start in range(0, len(sizes), STEP):
        part = np.concatenate((top, np.arange(start, min(len(sizes), start + STEP))))
        top = part[np.argsort(-sizes[part].astype(np.int64), kind="stable")][:NUM_LARGEST]
    return [
        {"documents": int(sizes[n]) + 1, "source": names[scanned.unit_of(n)], "kept": scanned.identity(n)}
        for n in top.tolist()
        if sizes[n]
    ]


def _empty_counts() -> dict[str, int]:
    whys = ("exact_within", "exact_across", "near_within", "near_across")
    return dict.fromkeys(("documents", *whys, "grams", "grams_dropped"), 0)


def _safe(name: str) -> str:
    """A file name for a source's name, whatever is in it."""
    return f"{xxhash.xxh3_64_hexdigest(name.encode())}"
