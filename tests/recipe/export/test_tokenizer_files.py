"""The exported tokenizer gives the ids that training saw, by whichever class transformers picks."""

import random
import sysconfig
from pathlib import Path

import pytest

from data_prep.tokenizer import Tokenizer
from recipe.export.tokenizer_files import compare, fast_tokenizer, write_tokenizer
from tests.recipe.export.conftest import with_scores

HARD = [
    "", " ", "  leading and trailing  ", "\n\n\t\n", "tab\tand\r\nreturn", "é e\u0301 ñ 语言 🙂🚀", "<s> </s> <unk> <0x41>",
    "\x00\x01\x7f", "====  ----  ~~~~" * 5, " \u00a0\u200b\ufeff", "a" * 300, "１２３ 456", "\ud7ff\ue000\uffff",
]


def fuzz(count: int) -> list[str]:
    rng = random.Random(5)
    pools = ["<s>/unk0x41>", "=-~ \t\n  ", "".join(map(chr, range(32, 127))), "语模🙂é\u0301\u00a0\x00\x7f", "(){}[]'\""]
    return ["".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 120))) for _ in range(count)]


@pytest.fixture(scope="module")
def exact(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("exact") / "tokenizer.model"
    return with_scores(tokenizer, path, lambda score: round(score * 128) / 128)


def test_scores_on_a_grid_give_the_same_ids(exact: Tokenizer) -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    real = [path.read_text(encoding="utf-8") for path in sorted((library / "email").glob("*.py"))]
    comparison = compare(exact, fast_tokenizer(exact), [*HARD, *real, *fuzz(500)])
    assert comparison.examples == []
    assert comparison.num_bytes > 300_000


def test_fast_decoding_is_lossless(exact: Tokenizer) -> None:
    fast = fast_tokenizer(exact)
    for text in HARD:
        assert fast.decode(exact.encode(text), skip_special_tokens=False) == text


def test_differences_are_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Scores off the grid: the running float32 score decides between equal paths, and the two libraries part."""
    off = with_scores(tokenizer, tmp_path / "off.model", lambda score: score * 1.0000001 - 0.1)
    runs = [" " * a + "=" * b + "\n" for a in range(40) for b in range(40)]
    text = ["".join(random.Random(seed).sample(runs, 400)) for seed in range(40)]
    comparison = compare(off, fast_tokenizer(off), text)
    assert comparison.num_different > 0
    assert {"token", "sentencepiece", "tokenizer_json"} <= set(comparison.examples[0])


@pytest.mark.parametrize("same", [True, False])
def test_transformers_loads_the_exact_one(exact: Tokenizer, tmp_path: Path, texts: list[str], same: bool, monkeypatch) -> None:
    """The fast class where nothing differs, SentencePiece itself where something does; right ids both ways."""
    from transformers import AutoTokenizer

    if not same:
        monkeypatch.setattr("recipe.export.tokenizer_files.Comparison.is_exact", property(lambda self: False))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    write_tokenizer(exact, tmp_path, texts=texts, max_tokens=64, chat_template="{{ messages[0].content }}")
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast == same
    for text in (*texts, "plain é🙂", "  two spaces\n"):
        assert loaded.encode(text, add_special_tokens=False) == exact.encode(text)
        assert loaded.encode(text) == exact.encode(text)  # neither start nor end is added: training had none
    assert loaded.eos_token_id == exact.eod_id
    assert loaded.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"
