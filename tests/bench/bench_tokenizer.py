"""An export's tokenizer.json against SentencePiece on at least 100 MB of real text and the fuzz set: every id.

    python -m tests.bench.bench_tokenizer --megabytes 100 [--roots DIR …]

Text is what lies on this machine: sources, documentation, licences in several languages. Two tokenizers are trained on a
sample of it: one as our trainer makes them (scores on a grid of 1/128), one with the scores off the grid, as others do.
"""

import argparse
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

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
    options = parser.parse_args()
    texts = _texts([Path(root) for root in options.roots], num_bytes=options.megabytes * 10**6)
    with tempfile.TemporaryDirectory() as folder:
        sample = list(islice(_texts([Path(root) for root in options.roots], num_bytes=4_000_000), 2000))
        ours = train_unigram(sample, out_dir=Path(folder), vocab_size=VOCAB_SIZE)
        assert isinstance(ours, SentencePieceTokenizer)
        off = with_scores(ours, Path(folder) / "off.model", lambda score: score * 1.0000001 - 0.1)
        documents = [*texts, *HARD, *fuzz(options.fuzz)]
        for name, tokenizer in (("scores on a grid of 1/128", ours), ("scores off the grid", off)):
            started = time.perf_counter()
            found = compare(tokenizer, fast_tokenizer(tokenizer), documents)
            took = time.perf_counter() - started
            size = f"{found.num_bytes / 1e6:.1f} MB in {found.num_documents} texts"
            print(f"{name}: {size}, {found.num_different} differ ({took:.0f} s)", flush=True)
            for example in found.examples:
                print(f"  token {example['token']}: {example['sentencepiece']} is not {example['tokenizer_json']}")


def _texts(roots: list[Path], *, num_bytes: int) -> Iterator[str]:
    """UTF-8 files below the roots, in order of path, until so many bytes."""
    taken = 0
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.suffix not in SUFFIXES or not path.is_file() or path.is_symlink() or path.stat().st_size > MAX_FILE_BYTES:
                continue
            try:
                text = path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue
            yield text
            taken += len(text.encode())
            if taken >= num_bytes:
                return


if __name__ == "__main__":
    main()
