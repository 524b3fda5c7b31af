"""Strings that break tokenizers: real text cut and mended at random, with what nobody expects mixed in."""

from __future__ import annotations

import random

CONTROL = ["\0", "\x01", "\x1b[0m", "\x7f", "\x85", "\r\n", "\r", "\t", "\n", " ", "  ", " " * 16, "\u00a0", "\u2028", "\u3000"]
MARKS = ["▁", "▁▁▁", "▂", "▀", "█", "<s>", "</s>", "<unk>", "<0x0A>", "<|endoftext|>", "[INST]"]
UNUSUAL = [
    "😀",
    "👩\u200d👩\u200d👧\u200d👦",
    "🇩🇪",
    "e\u0301\u0323",
    "\u0301",
    "ﷺ",
    "ﬁ",
    "ß",
    "İ",
    "ǅ",
    "\u200b",
    "\ufeff",
    "\ufffd",
]
SCRIPTS = ["中", "中文字符", "の", "カタカナ", "한국어", "Ж", "жъщ", "ع", "العربية", "हिन्दी", "ไทย", "🀄", "𝔘𝔫𝔦"]
LIMITS = ["\ufffe", "\U0010ffff", "\u07ff", "\u0800", "\ud7ff", "\ue000"]
RUNS = ["=" * 5, "-" * 9, "*" * 33, "aaaa", "0123456789", "http://", "__init__", "//////", "\\\\", '"', "'", "{}", "()"]
NASTY = (*CONTROL, *MARKS, *UNUSUAL, *SCRIPTS, *LIMITS, *RUNS)


def fuzzed(rng: random.Random, texts: list[str], count: int) -> list[str]:
    """``count`` strings, most of them short, a few of some 10,000 characters."""
    return [_one(rng, texts) for _ in range(count)]


def _one(rng: random.Random, texts: list[str]) -> str:
    kind = rng.random()
    if kind < 0.1:  # any characters at all
        return "".join(_character(rng) for _ in range(rng.randrange(60)))
    if kind < 0.2:  # runs
        return "".join(rng.choice(NASTY) * rng.randrange(1, rng.choice((3, 40))) for _ in range(rng.randrange(1, 5)))
    parts = []
    for _ in range(rng.randrange(1, 12)):
        text = rng.choice(texts)
        start = rng.randrange(len(text))
        parts.append(text[start : start + rng.randrange(rng.choice((8, 50, 50, 1500)))])
        parts.append(rng.choice(NASTY) * rng.choice((0, 1, 1, 2)))
    return "".join(parts)


def _character(rng: random.Random) -> str:
    limit = rng.choice((0x80, 0x800, 0x10000, 0x110000))
    code = rng.randrange(limit)
    return "?" if 0xD800 <= code < 0xE000 else chr(code)
