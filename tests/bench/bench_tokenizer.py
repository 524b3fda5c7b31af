"""An export's tokenizer.json against SentencePiece on at least 100 MB of real text and the fuzz set: every id.

    python -m tests.bench.bench_tokenizer --megabytes 100 [--roots DIR …] [--jsonl FILE … --tokenizer tokenizer.model]

Text is what lies on this machine (sources, documentation, licences in several languages), or the documents of JSON lines. A
tokenizer is trained on a sample of it, and compared as it is and with its scores rounded to multiples of 1/128, whose sums are
exact in any width; or one is given.
"""

import argparse
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import orjson

from data_prep.tokenizer import SentencePieceTokenizer, train_unigram
from recipe.export.tokenizer_files import compare, fast_tokenizer
from tests.recipe.export.conftest import with_scores
from tests.recipe.export.test_tokenizer_files import HARD, fuzz

SUFFIXES = {".py", ".md", ".rst", ".txt", ".html", ".c", ".h", ".cpp", ".js", ".json", ".po", ".yaml", ".xml", ".tex", ""}
MAX_FILE_BYTES = 1_000_000
VOCAB_SIZE = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--fuzz", type=int, default=5000, help="texts of the fuzz set")
    parser.add_argument("--roots", nargs="*", default=[*map(sysconfig.get_path, ("purelib", "stdlib")), "/usr/share"])
    parser.add_argument("--jsonl", nargs="*", type=Path, default=[], help="JSON lines, instead of the files below the roots")
    parser.add_argument("--tokenizer", type=Path, help="a SentencePiece model, instead of one that is trained here")
    options = parser.parse_args()
    roots = [Path(root) for root in options.roots]

    def texts(num_bytes: int) -> Iterator[str]:
        return _first(_documents(options.jsonl) if options.jsonl else _files(roots), num_bytes=num_bytes)

    if options.tokenizer:
        given = SentencePieceTokenizer(options.tokenizer)
        _report({options.tokenizer.name: given}, [*texts(options.megabytes * 10**6)], options.fuzz)
        return
    with tempfile.TemporaryDirectory() as folder:
        sample = list(islice(texts(4_000_000), 2000))
        ours = train_unigram(sample, out_dir=Path(folder), vocab_size=VOCAB_SIZE)
        assert isinstance(ours, SentencePieceTokenizer)
        rounded = with_scores(ours, Path(folder) / "rounded.model", lambda score: round(score * 128) / 128)
        named = {"as trained": ours, "scores rounded to 1/128": rounded}
        _report(named, [*texts(options.megabytes * 10**6)], options.fuzz)


def _report(tokenizers: dict[str, SentencePieceTokenizer], texts: list[str], num_fuzz: int) -> None:
    documents = [*texts, *HARD, *fuzz(num_fuzz)]
    for name, tokenizer in tokenizers.items():
        started = time.perf_counter()
        found = compare(tokenizer, fast_tokenizer(tokenizer), documents)
        took = time.perf_counter() - started
        size = f"{found.num_bytes / 1e6:.1f} MB in {found.num_documents} texts"
        print(f"{name}: {size}, {found.num_different} differ ({took:.0f} s)", flush=True)
        for example in found.examples:
            print(f"  token {example['token']}: {example['sentencepiece']} is not {example['tokenizer_json']}")


def _first(texts: Iterator[str], *, num_bytes: int) -> Iterator[str]:
    """Texts until so many bytes."""
    taken = 0
    for text in texts:
        yield text
        taken += len(text.encode())
        if taken >= num_bytes:
            return


def _documents(files: list[Path]) -> Iterator[str]:
    for path in files:
        with path.open("rb") as lines:
            yield from (orjson.loads(line)["text"] for line in lines)


def _files(roots: list[Path]) -> Iterator[str]:
    """UTF-8 files below the roots, in order of path."""
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.suffix not in SUFFIXES or not path.is_file() or path.is_symlink() or path.stat().st_size > MAX_FILE_BYTES:
                continue
            try:
                yield path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue


if __name__ == "__main__":
    main()
