"""Texts to gram sets and signatures, against plain Python and against what the mathematics says."""

from __future__ import annotations

import random
import re
import unicodedata

import numpy as np
import pytest

from data_prep.dedup.shingles import grams, normalized, token_bounds, tokens
from data_prep.dedup.signature import NUM_BANDS, NUM_SHORT_BANDS, ROWS, SHORT_ROWS, bands, minhashes, simhashes
from data_prep.dedup.verify import jaccard
from tests.data_prep.dedup.planted import HAN, edited, true_jaccard

SCRIPTS = (
    "Hello, World! foo_bar x+=1",
    "我们是学生。x你好，ＡＢ１（测试）",
    "é café naïve — “ok” … ½ ªº µm",
    "Тест ёлки, Ελληνικά; 한국어 문장입니다.",
    "ソフトウェアの自由とは、カタカナ・ひらがな",
    "สวัสดี ລາວ ភាសា မြန်မာ",
    "emoji 😀👩‍👩‍👧 end",
    "\x00\x01 tab\tnl\n\u00a0nbsp\u2003em",
    "",
    "!!! ... ---",
)


def plain_tokens(text: str) -> list[str]:
    """The same tokens, character by character."""
    single = r"[\u3041-\u9fff\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f\U00010000-\U0010ffff]"
    ascii_sign = r"\u0000-\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f"
    sign = rf"[{ascii_sign}\u0080-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u2000-\u207f\u3000-\u303f]"
    return re.findall(rf"{single}|(?:(?!{single}|{sign}).)+", unicodedata.normalize("NFKC", text).lower(), re.DOTALL)


@pytest.mark.parametrize("text", SCRIPTS)
def test_tokens_of_every_script(text: str) -> None:
    data = normalized(text).encode()
    starts, ends = token_bounds(np.frombuffer(data + b"\n", dtype=np.uint8))
    assert [data[start:end].decode() for start, end in zip(starts, ends)] == plain_tokens(text)


def test_tokens_of_random_text() -> None:
    rng = random.Random(0)
    alphabet = "".join(SCRIPTS) + "aA1_ -\n"
    for _ in range(300):
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 60)))
        data = normalized(text).encode()
        starts, ends = token_bounds(np.frombuffer(data + b"\n", dtype=np.uint8))
        assert [data[start:end].decode() for start, end in zip(starts, ends)] == plain_tokens(text), repr(text)


def test_a_text_has_the_same_grams_alone_and_among_others() -> None:
    texts = [*SCRIPTS, *("word " * count for count in range(9)), "last"]
    together = grams(texts)
    for number, text in enumerate(texts):
        alone = grams([text]).hashes
        assert (together.hashes[together.bounds[number] : together.bounds[number + 1]] == alone).all()
        assert len(alone) == (max(1, len(plain_tokens(text)) - 4) if plain_tokens(text) else 0)


def test_no_texts() -> None:
    assert len(grams([]).hashes) == 0
    assert len(bands(grams([]), similarity=0.8).num_grams) == 0
    assert len(simhashes(grams([]))) == 0


@pytest.mark.parametrize("letters", [[f"w{n}" for n in range(3000)], list(HAN)], ids=["words", "han"])
def test_similarity_is_the_true_one(letters: list[str]) -> None:
    rng = random.Random(1)
    joint = "" if letters[0] in HAN else " "
    for _ in range(60):
        words = rng.choices(letters, k=rng.randint(1, 200))
        left, right = joint.join(words), joint.join(edited(words, rng.uniform(0, 0.1), letters, rng))
        found = jaccard(*(np.unique(grams([text]).hashes) for text in (left, right)))
        assert found == pytest.approx(true_jaccard(left, right), abs=1e-12)


def test_case_and_layout_do_not_count_but_words_and_order_do() -> None:
    same = grams(["The cat sat on the mat", "the  CAT,\nsat (on) the mat!"])
    assert set(same.hashes[:2]) == set(same.hashes[2:])
    other = grams(["the cat sat on the mat", "cat the sat on the mat"])
    assert not set(other.hashes[:2]) & set(other.hashes[2:]) - {other.hashes[1]}


def test_short_texts_have_the_gram_of_their_length() -> None:
    """Contamination looks for items of n < 13 tokens by this."""
    short = "one two three four five six seven eight"
    assert grams([short], size=13).hashes.tolist() == grams([short], size=8).hashes.tolist()
    assert grams([short], size=8).hashes[0] in grams([f"zero {short} nine ten eleven twelve"], size=8).hashes


def test_token_counts() -> None:
    assert np.diff(tokens(["a b c", "", "你好"]).first).tolist() == [3, 0, 2]


def rate(pairs: list[tuple[str, str]], *, short: bool) -> tuple[float, float]:
    """How often pairs share a band, and how often theory has it."""
    left, right = (bands(grams(side), similarity=0.8) for side in zip(*pairs))
    one, two = (left.short_keys, right.short_keys) if short else (left.long_keys, right.long_keys)
    assert len(one) == len(two) == len(pairs)
    num_bands, rows = (NUM_SHORT_BANDS, SHORT_ROWS) if short else (NUM_BANDS, ROWS)
    theory = [1 - (1 - true_jaccard(a, b) ** rows) ** num_bands for a, b in pairs]
    return float((one == two).any(axis=1).mean()), float(np.mean(theory))


@pytest.mark.parametrize(
    ("short", "length", "frac"), [(False, 300, 0.03), (False, 300, 0.05), (True, 60, 0.08), (True, 60, 0.12)]
)
def test_pairs_share_a_band_as_often_as_theory_has_it(short: bool, length: int, frac: float) -> None:
    rng = random.Random(2)
    vocabulary = [f"w{n}" for n in range(20_000)]
    pairs = []
    for _ in range(500):
        words = rng.choices(vocabulary, k=length)
        copy = list(words)
        for at in rng.sample(range(length), round(frac * length)):
            copy[at] = rng.choice(vocabulary)
        pairs.append((" ".join(words), " ".join(copy)))
    found, theory = rate(pairs, short=short)
    assert 0.15 < theory < 0.97
    assert found == pytest.approx(theory, abs=4 * (theory * (1 - theory) / len(pairs)) ** 0.5 + 0.01)


def test_no_pair_is_lost_between_long_and_short_texts() -> None:
    """A set of 125 grams and one of 100 can be 0.8 alike: both have short bands."""
    words = " ".join(f"w{n}" for n in range(128)), " ".join(f"w{n}" for n in range(103))
    found = bands(grams(words), similarity=0.79)
    assert found.num_grams.tolist() == [124, 99]
    assert found.short_texts.tolist() == [0, 1]
    assert found.long_texts.tolist() == [0]


def test_signatures_are_fixed_for_ever() -> None:
    """Stored signatures of one corpus must fit another's: these numbers may not change."""
    found = grams(["The quick brown fox jumps over the lazy dog"])
    assert found.hashes.tolist()[:2] == [8026252396617777755, 7827283705643046993]
    assert minhashes(found)[0, :3].tolist() == [1668829728, 1619431338, 421212175]
    assert simhashes(found)[0] == 8061464319244617795


def test_simhash_of_like_texts_differs_in_few_bits() -> None:
    rng = random.Random(3)
    words = [f"w{rng.randrange(5000)}" for _ in range(400)]
    near = [*words[:200], "changed", *words[201:]]
    far = [f"v{rng.randrange(5000)}" for _ in range(400)]
    one, two, three = simhashes(grams([" ".join(words), " ".join(near), " ".join(far)])).tolist()
    assert (one ^ two).bit_count() < 12 < (one ^ three).bit_count()
