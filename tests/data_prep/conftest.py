"""One small tokenizer and some real text for all tests of this room."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import orjson
import pytest

from data_prep.sources import SourceSpec
from data_prep.tokenizer import SentencePieceTokenizer, train_unigram

# Code that prints a process's own peak in KiB (ru_maxrss starts at that of the process which forked it)
PRINT_PEAK = "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]))\n"
OTHER_SCRIPTS = (
    "自由软件是权利问题，不是价格问题。要理解这个概念，你应该考虑“free”是“言论自由”中的“自由”。\n",
    "Свободное программное обеспечение — это вопрос свободы, а не цены. Ёлки, объём, съезд.\n",
    "ソフトウェアの自由とは、利用者が実行し、複製し、配布し、研究し、変更し、改良する自由です。\n",
    "Größe, Öffnung, naïve, façade, Ærøskøbing, coöperate — “quotes”… 😀👩‍👩‍👧 e\u0301 \u200b\ufeff\n",
)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Some 200 documents: standard library code, and sentences of other scripts, long and short."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(root.glob("*.py"))[:120] + sorted((root / "json").glob("*.py"))
    code = [path.read_text(encoding="utf-8") for path in files]
    mixed = [OTHER_SCRIPTS[i % 4] * (1 + i % 7) + f"x = {i};\n" for i in range(80)]
    return [text for text in code if text] + mixed


@pytest.fixture(scope="session")
def tokenizer(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    """A Unigram model of 2,000 pieces trained on them."""
    return train_unigram(texts, out_dir=tmp_path_factory.mktemp("tokenizer"), vocab_size=2000)


@pytest.fixture(scope="session")
def corpus(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two JSON-lines files of the texts; the second with escaped characters, as json.dumps writes them."""
    import json

    folder = tmp_path_factory.mktemp("corpus")
    half = len(texts) // 2
    records = [{"id": i, "text": text, "meta": {"n": [1, 2.5e-3, None]}} for i, text in enumerate(texts)]
    (folder / "a.jsonl").write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records[:half]))
    (folder / "b.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records[half:]), encoding="ascii")
    return folder


@pytest.fixture
def spec(corpus: Path) -> SourceSpec:
    return SourceSpec(name="mixed", paths=(str(corpus / "*.jsonl"),), heldout_frac=0.1)
