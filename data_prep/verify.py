"""An independent re-read of shards: it shares the format's constants with the writer, and none of its code.

    python -m data_prep.verify DIR      (or `windtunnel verify DIR`)

With a manifest everything in it is checked; without one, any Megatron ``.bin/.idx`` pairs are, by the format alone.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from data_prep.manifest import MANIFEST_NAME

SLICE_BYTES = 8 << 20
_NUMPY = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}


@dataclass(frozen=True)
class Expected:
    """What tokens and shards must be; None where nobody said."""

    vocab_size: int | None = None
    eod_id: int | None = None
    dtype: str | None = None


def verify(folder: Path | str, *, tokenizer_sha256: str | None = None, expected: Expected | None = None) -> list[str]:
    """Reads every byte below a folder's manifests (or of its ``.bin/.idx`` pairs) and lists what is wrong.

    Args:
        folder: A split, a source or a whole data directory; every manifest below it is verified.
        tokenizer_sha256: The tokenizer that the data must be of, if one is asked for.
        expected: Vocabulary size, end-of-document id and dtype, for shards without a manifest.

    Returns:
        Problems, each naming its file; empty if all is well.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return [f"{folder}: no such folder"]
    manifests = sorted(folder.rglob(MANIFEST_NAME))
    problems = [problem for path in manifests for problem in _verify_manifest(path, tokenizer_sha256)]
    covered = {path.parent for path in manifests}
    plain = sorted(path for path in folder.rglob("*.idx") if path.parent not in covered and not path.name.startswith("."))
    for path in plain:
        if list(path.parent.glob("*.done.json")):
            problems.append(f"{path.parent}: shards without {MANIFEST_NAME}: tokenizing was not finished")
        problems += verify_pair(path.with_suffix(""), expected or Expected())[0]
    if not manifests and not plain:
        problems.append(f"{folder}: no {MANIFEST_NAME} and no .idx file below it")
    return list(dict.fromkeys(problems))


def _verify_manifest(path: Path, tokenizer_sha256: str | None) -> list[str]:
    """One split: manifest's own digest, sums, tokenizer, and every shard's files."""
    try:
        manifest = json.loads(path.read_bytes())
        stored = manifest.pop("sha256")
        shards = manifest["shards"]
        expected = Expected(manifest["vocab_size"], manifest["eod_id"], manifest["dtype"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{path}: not a manifest ({type(error).__name__}: {error})"]
    problems = []
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    if hashlib.sha256(canonical).hexdigest() != stored:
        problems.append(f"{path}: its sha256 is not that of its content: it was changed after it was written")
    if tokenizer_sha256 and manifest["tokenizer_sha256"] != tokenizer_sha256:
        ours, theirs = tokenizer_sha256[:12], str(manifest["tokenizer_sha256"])[:12]
        problems.append(f"{path}: made with tokenizer {theirs}, not {ours}: tokenize again with the right one")
    problems += _verify_tokenizer(path, manifest)
    for key in ("num_documents", "num_tokens", "text_bytes"):
        total = sum(entry[key] for entry in shards)
        if total != manifest[key]:
            problems.append(f"{path}: {key} is {manifest[key]}, its shards sum to {total}")
    for entry in shards:
        problems += _verify_entry(path.parent, entry, expected, has_mask=bool(manifest["has_loss_mask"]))
    named = {f"{entry['name']}{suffix}" for entry in shards for suffix in (".bin", ".idx", ".mask.bin")}
    for other in sorted(path.parent.glob("*.bin")) + sorted(path.parent.glob("*.idx")):
        if other.name not in named and not other.name.startswith("."):
            problems.append(f"{other}: not in {path.name}: left over, or put there by hand")
    return problems


def _verify_tokenizer(path: Path, manifest: dict) -> list[str]:
    """The tokenizer's file, if it is in the data directory: does it have the digest that the manifest names?"""
    sha256 = str(manifest["tokenizer_sha256"])
    problems = []
    for name in ("tokenizer.model", "tokenizer.json"):
        for parent in path.parents:
            model = parent / "tokenizers" / sha256[:12] / name
            if name == "tokenizer.json" and model.with_name("tokenizer.model").exists():
                continue  # an export beside the model
            if model.is_file() and hashlib.sha256(model.read_bytes()).hexdigest() != sha256:
                problems.append(f"{model}: is not the tokenizer {sha256[:12]} that {path} names: it was changed")
    return problems


def _verify_entry(folder: Path, entry: dict, expected: Expected, *, has_mask: bool) -> list[str]:
    """The files of one manifest entry."""
    prefix = folder / entry["name"]
    problems, facts = verify_pair(prefix, expected)
    for suffix in ("bin", "idx"):
        actual = facts.get(f"{suffix}_xxh128")
        if actual is not None and actual != entry[f"{suffix}_xxh128"]:
            problems.append(f"{prefix}.{suffix}: its digest is not the manifest's: bits changed, or files were swapped")
    for key in ("num_documents", "num_tokens", "bin_bytes", "idx_bytes"):
        if key in facts and facts[key] != entry[key]:
            problems.append(f"{prefix}: {key} is {facts[key]}, the manifest says {entry[key]}")
    if has_mask:
        problems += _verify_mask(Path(f"{prefix}.mask.bin"), entry)
    return problems


def _verify_mask(path: Path, entry: dict) -> list[str]:
    """The loss mask: a byte a token, 0 or 1."""
    digest, size, other = xxhash.xxh3_128(), 0, False
    try:
        with open(path, "rb") as file:
            while part := file.read(SLICE_BYTES):
                digest.update(part)
                size += len(part)
                other |= bool((np.frombuffer(part, np.uint8) > 1).any())
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    problems = []
    if size != entry["num_tokens"]:
        problems.append(f"{path}: {size} bytes for {entry['num_tokens']} tokens")
    if other:
        problems.append(f"{path}: holds values other than 0 and 1")
    if digest.hexdigest() != entry["mask_xxh128"]:
        problems.append(f"{path}: its digest is not the manifest's: bits changed, or files were swapped")
    return problems


def verify_pair(prefix: Path, expected: Expected) -> tuple[list[str], dict]:
    """One ``.bin/.idx`` pair by itself: header, lengths, pointers, token range, end-of-document marks.

    Returns:
        Problems, and what was seen: sizes, digests and counts, as a manifest's entry names them.
    """
    bin_path, idx_path = Path(f"{prefix}.bin"), Path(f"{prefix}.idx")
    facts: dict = {}
    absent = [f"{path}: no such file" for path in (bin_path, idx_path) if not path.is_file()]
    if absent:
        return absent, facts
    index = np.memmap(idx_path, mode="r", dtype=np.uint8) if idx_path.stat().st_size else np.zeros(0, np.uint8)
    facts |= {"idx_bytes": index.size, "idx_xxh128": xxhash.xxh3_128_hexdigest(index.data)}
    facts["bin_bytes"] = bin_path.stat().st_size
    problems, parts = _parse_index(idx_path, index, expected)
    if parts is not None:
        dtype, sizes, pointers, documents = parts
        problems += _check_index(idx_path, dtype, sizes, pointers, documents)
        facts |= {"num_documents": len(documents) - 1, "num_tokens": int(sizes.sum(dtype=np.int64))}
        if facts["bin_bytes"] != facts["num_tokens"] * dtype.itemsize:
            need = facts["num_tokens"] * dtype.itemsize
            problems.append(f"{bin_path}: {facts['bin_bytes']} bytes, where its index needs {need}: cut short or swapped")
        found, facts["bin_xxh128"] = _check_tokens(bin_path, dtype, expected)
        problems += found
        if not problems:
            problems += _check_ends(bin_path, dtype, sizes, documents, expected)
    else:
        _, facts["bin_xxh128"] = _check_tokens(bin_path, np.dtype("u1"), Expected())
    return problems, facts


def _parse_index(path: Path, index: np.ndarray, expected: Expected) -> tuple[list[str], tuple | None]:
    """Header and the three arrays."""
    if index.size < 34 or index[:9].tobytes() != b"MMIDIDX\x00\x00":
        return [f"{path}: not an index of Megatron's format (or cut within its header)"], None
    version, code, num_sequences, num_indices = struct.unpack("<QBQQ", index[9:34].tobytes())
    if version != 1 or code not in _NUMPY:
        return [f"{path}: version {version}, dtype code {code}: neither is known"], None
    dtype = np.dtype(_NUMPY[code])
    need = 34 + 12 * num_sequences + 8 * num_indices
    if index.size not in (need, need + num_sequences):
        return [f"{path}: {index.size} bytes, where its header needs {need}: cut short or swapped"], None
    problems = []
    if expected.dtype is not None and dtype != np.dtype(expected.dtype):
        problems.append(f"{path}: dtype {dtype.name}, the manifest says {expected.dtype}")
    a, b = 34 + 4 * num_sequences, 34 + 12 * num_sequences
    return problems, (dtype, index[34:a].view("<i4"), index[a:b].view("<i8"), index[b:need].view("<i8"))


def _check_index(path: Path, dtype: np.dtype, sizes: np.ndarray, pointers: np.ndarray, documents: np.ndarray) -> list[str]:
    """Lengths above 0, pointers that are their running sum, document indices that rise from 0 to the end."""
    problems = []
    step, running = 1 << 20, 0
    for start in range(0, len(sizes), step):
        lengths = sizes[start : start + step].astype(np.int64)
        if (lengths <= 0).any():
            problems.append(f"{path}: sequence {start + int(np.argmax(lengths <= 0))} has no tokens")
        right = running + np.concatenate(([0], np.cumsum(lengths)[:-1])) * dtype.itemsize
        wrong = pointers[start : start + step] != right
        if wrong.any():
            at = start + int(np.argmax(wrong))
            problems.append(
                f"{path}: pointer {at} is {int(pointers[at])}, the lengths before it sum to {int(right[at - start])}"
            )
            break
        running += int(lengths.sum()) * dtype.itemsize
    if len(documents) == 0 or documents[0] != 0 or documents[-1] != len(sizes):
        problems.append(f"{path}: document indices don't run from 0 to {len(sizes)}")
    elif (np.diff(documents) <= 0).any():
        problems.append(f"{path}: document index {int(np.argmax(np.diff(documents) <= 0)) + 1} doesn't rise")
    return problems


def _check_tokens(path: Path, dtype: np.dtype, expected: Expected) -> tuple[list[str], str]:
    """Every token in the vocabulary; and the file's digest."""
    problems: list[str] = []
    digest, seen = xxhash.xxh3_128(), 0
    with open(path, "rb") as file:
        while part := file.read(SLICE_BYTES):
            digest.update(part)
            tokens = np.frombuffer(part[: len(part) // dtype.itemsize * dtype.itemsize], dtype)
            if expected.vocab_size is not None and len(tokens) and not problems:
                bad = (tokens >= expected.vocab_size) | (tokens < 0)
                if bad.any():
                    at = int(np.argmax(bad))
                    problems.append(f"{path}: token {seen + at} is {tokens[at]}, outside 0 to {expected.vocab_size - 1}")
            seen += len(tokens)
    return problems, digest.hexdigest()


def _check_ends(path: Path, dtype: np.dtype, sizes: np.ndarray, documents: np.ndarray, expected: Expected) -> list[str]:
    """Each document ends with the end-of-document token."""
    if expected.eod_id is None or len(sizes) == 0:
        return []
    tokens = np.memmap(path, mode="r", dtype=dtype)
    step, running = 1 << 20, 0
    ends_at = documents[1:] - 1  # the last sequence of each document
    for start in range(0, len(sizes), step):
        ends = running + np.cumsum(sizes[start : start + step], dtype=np.int64)
        lo, hi = np.searchsorted(ends_at, [start, start + len(ends)])
        last = tokens[ends[ends_at[lo:hi] - start] - 1]
        wrong = last != expected.eod_id
        if wrong.any():
            at = int(np.argmax(wrong))
            return [f"{path}: document {int(lo) + at} ends with token {last[at]}, not with end-of-document {expected.eod_id}"]
        running = int(ends[-1])
    return []


if __name__ == "__main__":
    import sys

    found = [problem for folder in sys.argv[1:] for problem in verify(folder)]
    print("\n".join(found) or "ok")
    sys.exit(1 if found else 0)
