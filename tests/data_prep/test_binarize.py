"""Shards are the same bytes for any way of making them, nothing is lost without a word, and a kill costs only time."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import zstandard

from data_prep import binarize as module
from data_prep.binarize import binarize, missing
from data_prep.errors import DataError, RejectLimitError, SourceError
from data_prep.indexed import IndexedShard
from data_prep.plan import make_plan
from data_prep.shard import read_counts
from data_prep.sources import SourceSpec, documents
from data_prep.sources.block import heldout_limit, split_key
from data_prep.tokenizer import SentencePieceTokenizer
from data_prep.verify import verify
from tests.data_prep.conftest import PRINT_PEAK

SMALL = 200_000


def contents(folder: Path) -> dict[str, bytes]:
    """Every shard and manifest below a folder (done files hold seconds)."""
    kept = [path for path in folder.rglob("*") if path.suffix in (".bin", ".idx") or path.name == "manifest.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


@pytest.fixture(scope="module")
def whole(corpus: Path, tokenizer: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards as one undisturbed process makes them."""
    folder = tmp_path_factory.mktemp("whole")
    spec = SourceSpec(name="mixed", paths=(str(corpus / "*.jsonl"),), heldout_frac=0.1)
    binarize(spec, tokenizer=tokenizer, data_dir=folder, shard_bytes=SMALL)
    return folder


def test_same_bytes_as_megatron(spec: SourceSpec, tokenizer: SentencePieceTokenizer, whole: Path, tmp_path: Path) -> None:
    """Sentencepiece's own ids through megatron-core's own builder, document by document."""
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    plan = make_plan(spec, tokenizer=tokenizer, data_dir=whole, shard_bytes=SMALL)
    texts = [document.text for document in documents(spec)]
    limit = heldout_limit(spec.heldout_frac)
    for split, wanted in (("train", False), ("heldout", True)):
        chosen = [text for text in texts if (split_key(text.encode()) < limit) == wanted]
        assert chosen
        builder = IndexedDatasetBuilder(str(tmp_path / "all.bin"), dtype=DType.optimal_dtype(tokenizer.vocab_size))
        for text in chosen:
            ids = [*tokenizer.processor.encode(text), tokenizer.eod_id]
            builder.add_document(np.array(ids), [len(ids)])
        builder.finalize(str(tmp_path / "all.idx"))
        shards = [IndexedShard(path.with_suffix("")) for path in sorted(plan.split_dir(split).glob("*.idx"))]
        assert b"".join(shard.bin_path.read_bytes() for shard in shards) == (tmp_path / "all.bin").read_bytes()
        assert np.concatenate([shard.sizes for shard in shards]).tolist() == IndexedShard(tmp_path / "all").sizes.tolist()


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers(spec, tokenizer, whole: Path, tmp_path: Path, workers: int) -> None:
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL, workers=workers)
    assert contents(tmp_path) == contents(whole)


def test_plain_path_writes_the_same(spec, tokenizer, whole: Path, tmp_path: Path, monkeypatch) -> None:
    from data_prep.encode import PlainEncoder

    monkeypatch.setattr(module, "make_encoder", PlainEncoder)
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL)
    assert contents(tmp_path) == contents(whole)


def test_says_that_the_fast_path_is_missing(spec, tokenizer, tmp_path: Path, monkeypatch, caplog) -> None:
    from data_prep.native.build import library

    monkeypatch.setenv("WINDTUNNEL_NATIVE", "0")
    library.cache_clear()
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL)
    library.cache_clear()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "encoded by sentencepiece's own encoder" in said
    assert "turned off by WINDTUNNEL_NATIVE=0" in said


@pytest.mark.parametrize("shard_bytes", [50_000, 1_000_000, 1 << 40])
def test_any_cutting_gives_the_same_tokens(spec, tokenizer, whole: Path, tmp_path: Path, shard_bytes: int) -> None:
    def tokens(folder: Path) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(folder.rglob("train/*.bin")))

    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=shard_bytes)
    assert tokens(tmp_path) == tokens(whole)


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".parquet"])
def test_other_inputs_give_the_same_tokens(corpus: Path, spec, tokenizer, whole: Path, tmp_path: Path, suffix: str) -> None:
    import pyarrow
    import pyarrow.parquet

    for path in corpus.glob("*.jsonl"):
        target = tmp_path / f"{path.name}{suffix}"
        if suffix == ".gz":
            target.write_bytes(gzip.compress(path.read_bytes()))
        elif suffix == ".zst":  # two frames, as parallel compressors write
            half = len(path.read_bytes()) // 2
            parts = (path.read_bytes()[:half], path.read_bytes()[half:])
            target.write_bytes(b"".join(zstandard.compress(part) for part in parts))
        else:
            rows = [orjson.loads(line)["text"] for line in path.read_bytes().splitlines()]
            pyarrow.parquet.write_table(pyarrow.table({"text": rows}), target, row_group_size=20)
    kind = "parquet" if suffix == ".parquet" else "jsonl"
    other = replace(spec, kind=kind, paths=(str(tmp_path / f"*{suffix}"),))
    binarize(other, tokenizer=tokenizer, data_dir=tmp_path / "out", shard_bytes=SMALL)
    for split in ("train", "heldout"):
        ours = b"".join(path.read_bytes() for path in sorted((tmp_path / "out").rglob(f"{split}/*.bin")))
        assert ours == b"".join(path.read_bytes() for path in sorted(whole.rglob(f"{split}/*.bin")))


BAD_LINES = {
    "not json": b'{"text": "cut',
    "no field": b'{"body": "x"}',
    "wrong type": b'{"text": 5}',
    "not utf-8": b'{"text": "\xff"}',
    "empty": b'{"text": ""}',
}


def test_bad_records_are_counted_and_listed(tokenizer, tmp_path: Path) -> None:
    lines = [orjson.dumps({"text": f"document {i}"}) for i in range(1000)]
    for place, bad in zip((3, 100, 500, 501, 999), BAD_LINES.values(), strict=True):
        lines[place] = bad
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    spec = SourceSpec(name="c", paths=(str(tmp_path / "c.jsonl"),), rejects_max_frac=0.01)
    manifests = binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=1 << 30)
    assert sum(manifest.num_documents for manifest in manifests.values()) == 995
    plan = make_plan(spec, tokenizer=tokenizer, data_dir=tmp_path)
    counts = read_counts(plan, 0)
    assert (counts.num_read, counts.num_rejected) == (1000, 5)
    assert set(counts.rejects) == set(BAD_LINES)
    listed = [orjson.loads(line) for line in plan.rejects_path(0).read_bytes().splitlines()]
    assert [(reject["kind"], reject["line"]) for reject in listed] == list(
        zip(BAD_LINES, (4, 101, 501, 502, 1000), strict=True)
    )


def test_too_many_bad_records_fail(tokenizer, tmp_path: Path) -> None:
    lines = [orjson.dumps({"text": f"document {i}"}) for i in range(100)]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join([*lines, b"{}", b"[1]"]))
    spec = SourceSpec(name="c", paths=(str(tmp_path / "c.jsonl"),))
    with pytest.raises(RejectLimitError, match=r"2 of 102 records are bad(.|\n)*no field: 1, first .*c.jsonl:101"):
        binarize(spec, tokenizer=tokenizer, data_dir=tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))
    binarize(replace(spec, rejects_max_frac=0.05), tokenizer=tokenizer, data_dir=tmp_path)  # and with a higher limit it goes on
    assert verify(tmp_path) == []


def test_only_what_is_missing(spec, tokenizer, whole: Path, tmp_path: Path) -> None:
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL)
    plan = make_plan(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.bin")}
    plan.done_path(1, "train").unlink()
    (plan.split_dir("train") / "shard_00002.bin").write_bytes(b"cut")
    assert missing(plan) == [1, 2]
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL)
    again = {path.name for path in before if path.stat().st_mtime_ns != before[path]}
    assert again == {"shard_00001.bin", "shard_00002.bin"}
    assert contents(tmp_path) == contents(whole)


def test_another_plan_is_refused(spec, tokenizer, tmp_path: Path) -> None:
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL)
    with pytest.raises(SourceError, match=r"heldout_frac = 0.1, and now it is 0.2"):
        binarize(replace(spec, heldout_frac=0.2), tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL)


@pytest.mark.parametrize("paths", [("nowhere/*.jsonl",), ()])
def test_missing_corpus(tokenizer, tmp_path: Path, paths: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match="source c: "):
        binarize(SourceSpec(name="c", paths=paths), tokenizer=tokenizer, data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_input_vanishes(spec, corpus: Path, tokenizer, tmp_path: Path) -> None:
    copy = tmp_path / "a.jsonl"
    copy.write_bytes((corpus / "a.jsonl").read_bytes())
    plan = make_plan(replace(spec, paths=(str(copy),)), tokenizer=tokenizer, data_dir=tmp_path / "out", shard_bytes=SMALL)
    plan.store()
    copy.unlink()
    with pytest.raises(SourceError, match=r"a\.jsonl: No such file"):
        module.run_shards(plan, missing(plan))
    assert not list((tmp_path / "out").rglob("*.bin"))
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_damaged_gzip(tokenizer, tmp_path: Path) -> None:
    rng = random.Random(1)
    lines = "".join(f'{{"text": "{rng.getrandbits(512):x}"}}\n' for _ in range(1000))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-5000])
    with pytest.raises(SourceError, match=r"c\.jsonl\.gz: cannot be read at about byte"):
        binarize(SourceSpec(name="c", paths=(str(tmp_path / "c.jsonl.gz"),)), tokenizer=tokenizer, data_dir=tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_disk_full(spec, tokenizer, tmp_path: Path) -> None:
    """A limit on file size stands in for the disk: the write fails in the kernel, as a full one does."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from data_prep.binarize import binarize; from data_prep.sources import SourceSpec\n"
        "from data_prep.tokenizer import load_tokenizer; from data_prep.errors import DataError\n"
        "from data_prep.native.build import library; library()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"try: binarize(SourceSpec(name='c', paths={spec.paths!r}), tokenizer=load_tokenizer({str(tokenizer.path)!r}), "
        f"data_dir={str(tmp_path)!r})\n"
        "except DataError as error: print(error); sys.exit(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot be written: " in done.stdout
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".idx", ".tmp")]


HOSTILE = {
    "short": lambda texts: (f'{{"text": "document {i}"}}\n'.encode() for i in range(400_000)),
    "mixed": lambda texts: (orjson.dumps({"text": f"{i} {texts[i % len(texts)]}"}) + b"\n" for i in range(6_000)),
    "blank": lambda texts: (b"\n" * 1000 for _ in range(100)),
    "long": lambda texts: (orjson.dumps({"text": "".join(texts)}) + b"\n" for _ in range(30)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_memory_of_a_worker(kind: str, texts: list[str], tokenizer, tmp_path: Path) -> None:
    """Tens of megabytes of each kind, in a process of its own: at most 256 MB are resident, whatever it is fed with."""
    path = tmp_path / "c.jsonl"
    with open(path, "wb") as file:
        file.writelines(HOSTILE[kind](texts))
    code = (
        "from data_prep.binarize import binarize; from data_prep.errors import DataError\n"
        "from data_prep.sources import SourceSpec; from data_prep.tokenizer import load_tokenizer\n"
        f"try: binarize(SourceSpec(name='c', paths=({str(path)!r},), rejects_max_frac=0.9999), "
        f"tokenizer=load_tokenizer({str(tokenizer.path)!r}), data_dir={str(tmp_path)!r})\n"
        "except DataError: pass\n"
        f"{PRINT_PEAK}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout.splitlines()[-1]) < 256_000_000 / 1024  # KiB


def killed_worker(plan, shard, **_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_is_a_clear_error(spec, tokenizer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_work", killed_worker)
    with pytest.raises(DataError, match="a worker was killed"):
        binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL, workers=2)


def kill_and_go_on(spec: SourceSpec, tokenizer: SentencePieceTokenizer, folder: Path, *, kills: int, seed: int) -> int:
    """Starts the job again and again, each time killed at a random moment with all its workers; then lets it finish."""
    code = (
        "from data_prep.binarize import binarize; from data_prep.sources import SourceSpec\n"
        "from data_prep.tokenizer import load_tokenizer\n"
        "if __name__ == '__main__':\n"
        f"    spec = SourceSpec(name='mixed', paths={spec.paths!r}, heldout_frac=0.1)\n"
        f"    print('start', flush=True); binarize(spec, tokenizer=load_tokenizer({str(tokenizer.path)!r}), "
        f"data_dir={str(folder)!r}, shard_bytes={SMALL})\n"
    )
    rng, landed = random.Random(seed), 0
    for _ in range(kills):
        job = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert job.stdout is not None
        job.stdout.readline()  # imports are done
        time.sleep(rng.uniform(0, 0.9))
        landed += job.poll() is None
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        job.stdout.close()
        for path in folder.rglob("*.done.json"):  # what is called done is whole
            entry = orjson.loads(path.read_bytes())["entry"]
            if entry["num_documents"]:
                assert path.with_name(f"{entry['name']}.bin").stat().st_size == entry["bin_bytes"]
        if rng.random() < 0.2 and (done := sorted(folder.rglob("train/*.done.json"))):
            rng.choice(done).unlink()  # so that there is always something left to kill
    return landed


def test_killed_at_random(spec, tokenizer, whole: Path, tmp_path: Path) -> None:
    kill_and_go_on(spec, tokenizer, tmp_path, kills=5, seed=1)
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL)
    assert contents(tmp_path) == contents(whole)
    assert not list(tmp_path.rglob(".shard_*.tmp"))


@pytest.mark.slow
def test_killed_50_times(spec, tokenizer, whole: Path, tmp_path: Path) -> None:
    assert kill_and_go_on(spec, tokenizer, tmp_path, kills=50, seed=2) > 10
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path, shard_bytes=SMALL)
    assert contents(tmp_path) == contents(whole)
