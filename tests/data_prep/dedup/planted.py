"""A corpus whose duplicates are known: real text and its copies, edited, cut, joined, in templates, short, and in Chinese.

``true_jaccard`` is written without anything of data_prep: words (characters in Chinese) by regular expressions, sets of tuples.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

# Common characters of modern Chinese; texts are drawn from them as letters of a language without meaning.
HAN = (
    "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家十用发天如然作方成者多日都三小军二无同么经法当起与"
    "好看学进种将还分此心前面又定见只主没公从知使此体明间点关重意相新力加理性应果系水化高产本活加次气合两手门利海原员变条路程级位真决管反今各世建式党向设几认战先"
)
TEMPLATE = (
    "Dear customer, thank you for your order with our shop. The parcel has been handed to the carrier and will arrive within "
    "three working days. Your item is {0}. Please keep this message until the parcel has arrived, and write to our service if "
    "anything is missing or broken. Returns are free for thirty days. With kind regards, the team of the shop"
)
KINDS = ("edits", "truncated", "joined", "short", "chinese")


@dataclass(frozen=True)
class Planted:
    """A corpus and what is known of it.

    Attributes:
        texts: All documents, shuffled.
        pairs: (position, position, kind, true Jaccard similarity) of each original and its copy.
        templates: Positions of different items in one template: no two are duplicates.
    """

    texts: list[str]
    pairs: list[tuple[int, int, str, float]]
    templates: list[int]

    @property
    def family(self) -> dict[int, int]:
        """Position -> the original it is, or comes from."""
        known = {position: position for position in range(len(self.texts))}
        return known | {copy: original for original, copy, _, _ in self.pairs}


def tokens(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text.lower())


def true_jaccard(left: str, right: str) -> float:
    def grams(text: str) -> set[tuple[str, ...]]:
        found = tokens(text)
        return {tuple(found[at : at + 5]) for at in range(max(1, len(found) - 4))}

    a, b = grams(left), grams(right)
    return len(a & b) / len(a | b)


def edited(words: list[str], frac: float, vocabulary: list[str], rng: random.Random) -> list[str]:
    """Words replaced, left out or put in at ``frac`` of the places."""
    changed = list(words)
    for _ in range(max(1, round(frac * len(words)))):
        at = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[at] = rng.choice(vocabulary)
            case 1 if len(changed) > 1:
                del changed[at]
            case _:
                changed.insert(at, rng.choice(vocabulary))
    return changed


def passages(texts: list[str], rng: random.Random) -> Iterator[list[str]]:
    """Endless stretches of 60 to 600 words of real text, none twice."""
    words = [text.split() for text in texts]
    while True:
        rng.shuffle(words)
        for document in words:
            length = rng.randint(60, 600)
            for start in range(0, len(document) - length, length):
                yield document[start : start + length]
        words = [document[rng.randrange(1, 60) :] for document in words if len(document) > 200]


def plant(texts: list[str], *, per_kind: int, seed: int) -> Planted:
    """Originals of every kind with a copy each, as many originals without one, and as many texts in one template."""
    rng = random.Random(seed)
    source = passages(texts, rng)
    vocabulary = sorted({word for text in texts[:50] for word in text.split()})
    items: list[tuple[str, str, str]] = []
    for number in range(per_kind):
        frac = (number % 10 + 1) / 100
        words = next(source)
        items.append((" ".join(words), " ".join(edited(words, frac, vocabulary, rng)), "edits"))
        words = next(source)
        items.append((" ".join(words), " ".join(words[: int(len(words) * rng.uniform(0.6, 0.99))]), "truncated"))
        words, more = next(source), next(source)
        items.append((" ".join(words), " ".join(words + more[: int(len(words) * rng.uniform(0.01, 0.4))]), "joined"))
        words = next(source)[: rng.randint(12, 60)]
        items.append((" ".join(words), " ".join(edited(words, rng.choice((0.0, 0.0, frac)), vocabulary, rng)), "short"))
        han = rng.choices(HAN, k=rng.randint(60, 800))
        items.append(("".join(han), "".join(edited(han, frac / 2, list(HAN), rng)), "chinese"))
    alone = [" ".join(next(source)) for _ in range(per_kind)]
    templates = [TEMPLATE.format(" ".join(rng.choices(vocabulary, k=12))) for _ in range(per_kind)]
    return _shuffled(items, alone, templates, rng)


def _shuffled(items: list[tuple[str, str, str]], alone: list[str], templates: list[str], rng: random.Random) -> Planted:
    texts = [text for original, copy, _ in items for text in (original, copy)] + alone + templates
    order = list(range(len(texts)))
    rng.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    pairs = [
        (place[2 * number], place[2 * number + 1], kind, true_jaccard(original, copy))
        for number, (original, copy, kind) in enumerate(items)
    ]
    first = 2 * len(items) + len(alone)
    return Planted([texts[old] for old in order], pairs, [place[first + number] for number in range(len(templates))])
