"""Every way of cutting an input gives its records once, in order; the compiled reader sees what orjson sees."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import orjson
import pytest

from data_prep.sources import Document, SourceSpec, blocks, pieces, read
from data_prep.sources.block import split_key
from data_prep.sources.jsonl import document
from data_prep.sources.spec import Piece
from tests.data_prep.fuzz import fuzzed


@pytest.mark.parametrize("target", [1, 7, 50, 1000, 1 << 40])
@pytest.mark.parametrize("last_newline", [True, False])
def test_cuts_give_each_line_once(tmp_path: Path, target: int, last_newline: bool) -> None:
    texts = ["x" * (i % 40 + 1) + str(i) for i in range(60)]
    lines = [json.dumps({"text": text}) for text in texts]
    (tmp_path / "c.jsonl").write_text("\n".join(lines) + "\n" * last_newline)
    spec = SourceSpec(name="c", paths=(str(tmp_path),))
    got = [item for piece in pieces(spec, target_bytes=target) for item in read(spec, piece)]
    assert [item.text for item in got] == texts


def test_lines_longer_than_a_block(tmp_path: Path, monkeypatch) -> None:
    from data_prep.sources import jsonl

    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 64)
    texts = ["a" * 1000, "b", "c" * 300, "d" * 63]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    spec = SourceSpec(name="c", paths=(str(tmp_path / "c.jsonl"),))
    for target in (1, 200, 1 << 40):
        assert [item.text for piece in pieces(spec, target_bytes=target) for item in read(spec, piece)] == texts


ODD = [
    b'{"text": "a"}',
    b' { "text" : "a" } ',
    b'{"text":"a","text":"b"}',
    b'{"te\\u0078t": "a"}',
    b'{"x": {"text": "no"}, "text": "a"}',
    b'{"text": "\\ud83d\\ude00\\n\\u0000\\/"}',
    b'{"text": "\\ud83d"}',
    b'{"text": "\\ude00\\ud83d"}',
    b'{"text": "\\u12g4"}',
    b'{"text": "a"',
    b'{"text": "a"} x',
    b'{"text": "a",}',
    b"[]",
    b"",
    b"  ",
    b"{}",
    b"null",
    b'{"text": null}',
    b'{"text": ["a"]}',
    b'{"n": 01, "text": "a"}',
    b'{"n": 1.5e-3, "text": "a"}',
    b'{"n": 1e999, "text": "a"}',
    b'{"n": NaN, "text": "a"}',
    b'{"n": -, "text": "a"}',
    b'{"n": 123456789012345678901234567890, "text": "a"}',
    b'{"n": 1., "text": "a"}',
    b'{"n": .5, "text": "a"}',
    b'{"n": +1, "text": "a"}',
    b'{"a": [1, {"b": [true, false, null]}], "text": "a"}',
    b'{"a": [1,], "text": "a"}',
    b'{"a": tru, "text": "a"}',
    b'{"a": {"b"}, "text": "a"}',
    b'{"text": "tab\there"}',
    b'{"text": "\x7f"}',
    b'{"text": "\xc3\xa9"}',
    b'{"text": "\xc3"}',
    b'{"text": "\xed\xa0\x80"}',
    b'{"text": "\xc0\xaf"}',
    b'{"text": "\xf4\x90\x80\x80"}',
    b'{"text": "\xf0\x9f\x98\x80"}',
    b'{"text": "a\\x"}',
    b'{"text": "a"}\r',
    b"[" * 2000,
    b'{"text": "\\',
]


@pytest.mark.skipif(not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler on this machine")
@pytest.mark.parametrize("seed", range(3))
def test_compiled_reader_sees_what_orjson_sees(tmp_path: Path, texts: list[str], seed: int) -> None:
    rng = random.Random(seed)
    lines = [*ODD]
    for text in fuzzed(rng, texts, 300):
        record = {"id": rng.randrange(10**18), "text": text, "tags": [text[:5], rng.random(), None, {"k": True}]}
        raw = orjson.dumps(record) if rng.random() < 0.5 else json.dumps(record).encode()
        lines.append(raw)
        broken = bytearray(raw)
        broken[rng.randrange(len(raw))] = rng.choice(b'\\"{}[],:0\xff\x01 \n')
        lines += bytes(broken).split(b"\n")
    rng.shuffle(lines)
    path = tmp_path / "c.jsonl"
    path.write_bytes(b"\n".join(lines))
    spec, piece = SourceSpec(name="c"), Piece(str(path), 0, 1 << 40, path.stat().st_size)
    wanted = [
        document("text", line, file=str(path), line=i + 1, offset=0) for i, line in enumerate(path.read_bytes().split(b"\n"))
    ]
    if path.read_bytes().endswith(b"\n"):
        wanted.pop()
    good = [item for item in wanted if isinstance(item, Document)]
    got_texts, got_keys, rejects = [], [], []
    for block in blocks(spec, piece, fast=True):
        got_texts += block.texts()
        got_keys += block.keys.tolist()
        rejects += block.rejects
    assert got_texts == [item.text.encode() for item in good]
    assert got_keys == [split_key(text) for text in got_texts]
    assert [(r.kind, r.line) for r in rejects] == [(r.kind, r.line) for r in wanted if not isinstance(r, Document)]


@pytest.mark.parametrize("fast", [False, True])
def test_byte_order_mark_and_carriage_returns(tmp_path: Path, fast: bool) -> None:
    """What editors on Windows write: a mark before the first record, two characters at each line's end."""
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two"}\r\n\xef\xbb\xbf{"text": "three"}')
    got = list(blocks(SourceSpec(name="c"), Piece(str(path), 0, 1 << 40, path.stat().st_size), fast=fast))
    assert [text for block in got for text in block.texts()] == [b"one", b"two"]
    assert [(r.kind, r.line) for block in got for r in block.rejects] == [("not json", 3)]  # only the file's first bytes


COLUMNS = {
    "plain": (["one", "two", "é中\U0001f600"] * 50, "string"),
    "large": (["one", "two"] * 50, "large_string"),
    "odd": (["one", None, "", "two", None, "", ""] * 30, "string"),
    "only odd": ([None, ""], "string"),
    "no rows": ([], "string"),
    "bytes": ([b"one", b"\xff\xfe", b"two", None], "binary"),
    "long": (["x" * 3_000_000, "y", "z" * 2_000_000], "string"),
    "repeated": (["the same text again"] * 40_000, "string"),
}


@pytest.mark.skipif(not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler on this machine")
@pytest.mark.parametrize("case", COLUMNS)
def test_parquet_by_columns_and_by_rows(tmp_path: Path, case: str) -> None:
    """The column's own bytes give what its rows give one by one: texts, keys, rejects and dropped documents."""
    import numpy as np
    import pyarrow
    import pyarrow.parquet

    from data_prep.dedup.drops import DropList, id_hash, write_drops

    values, kind = COLUMNS[case]
    table = pyarrow.table({"n": range(len(values)), "text": pyarrow.array(values, getattr(pyarrow, kind)())})
    path = tmp_path / "c.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=17 if len(values) < 1000 else None)
    spec = SourceSpec(name="c", kind="parquet", paths=(str(path),))
    write_drops(tmp_path, "c", by="test", hashes=np.array([id_hash(f"{path}:{row}") for row in (0, 20, 21)], np.uint64))
    for drops in (None, DropList.load(tmp_path, "c")):
        seen = []
        for fast in (False, True):
            got = [block for piece in pieces(spec, target_bytes=1) for block in blocks(spec, piece, fast=fast, drops=drops)]
            dropped = [flag for block in got for flag in (block.dropped.tolist() if block.dropped is not None else [])]
            texts = [text for block in got for text in block.texts()]
            keys = [key for block in got for key in block.keys.tolist()]
            seen.append((texts, keys, dropped, [reject for block in got for reject in block.rejects]))
        assert seen[0] == seen[1]
        assert sum(len(part) for part in (seen[0][0], seen[0][3])) == len(values)


def test_text_and_directory(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("two\n")
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "c.bin").write_bytes(b"\xff\xfe")
    (tmp_path / ".hidden").write_text("never")
    text = SourceSpec(name="c", kind="text", paths=(str(tmp_path),))
    assert [item.text for piece in pieces(text) for item in read(text, piece)] == ["one", "two\n"]
    folder = SourceSpec(name="c", kind="directory", paths=(str(tmp_path),))
    got = [item for piece in pieces(folder) for item in read(folder, piece)]
    assert [type(item).__name__ for item in got] == ["Document", "Document", "Reject"]
    assert got[2].kind == "not utf-8"
