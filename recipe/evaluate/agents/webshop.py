"""WebShop (arXiv 2207.01206): find and buy what an instruction asks for, on text pages.

The paper's site isn't published as a package (PyPI's `webshop` 0.1.0 is an empty shell of it), so its text pages, its search
and its reward are written here from the paper, over its own data: `<data>/webshop/items_shuffle.json` (products),
`items_ins_v2.json` (attributes) and `items_human_ins.json` (instructions). Differences: BM25 by SQLite instead of Lucene, and
title similarity over all words instead of nouns.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.evaluate.agents.index import SearchIndex
from recipe.evaluate.agents.react import BadAction, Outcome, parse_call
from recipe.evaluate.loglikelihood import TaskError
from recipe.rundir import read_json

PAGE = 10  # products on a page of results
FILES = ("items_shuffle.json", "items_ins_v2.json", "items_human_ins.json")
ACTIONS = ("search", "click")
INSTRUCTIONS = """Shop by turns of Thought, Action and Observation. Actions:
search[words] finds products; click[text] follows what stands in brackets on the page.

Instruction: I want a blue cotton towel, and price lower than 20.00 dollars
[Search]
Thought 1: I search for it.
Action 1: search[blue cotton towel]
Observation 1: [Back to Search] Page 1 (1 products)
[B0TOWEL001] Bath towel, pure cotton, $12.00
Thought 2: That fits.
Action 2: click[B0TOWEL001]
Observation 2: [Back to Search] [< Prev] color: [blue] [red]
Bath towel, pure cotton. Price: $12.00 [Description] [Features] [Buy Now]
Thought 3: Blue, then buy.
Action 3: click[blue]
Observation 3: You have clicked blue.
Thought 4: Buy.
Action 4: click[Buy Now]
Observation 4: Thank you for shopping with us."""


@dataclass(frozen=True)
class Product:
    """What a page shows, and what the reward looks at."""

    asin: str
    title: str
    description: str
    features: tuple[str, ...]
    price: float
    options: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    category: str
    query: str


@dataclass(frozen=True)
class Goal:
    """What the instruction asks for."""

    text: str
    target: Product
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    max_price: float


class Shop:
    """All products, by number and by search."""

    def __init__(self, products: list[Product]) -> None:
        self.products = {product.asin: product for product in products}
        self.index = SearchIndex.in_memory((p.asin, " ".join([p.title, p.description, *p.features])) for p in products)


class WebshopTask:
    """One instruction; success is a reward of 1, as the paper counts it."""

    instructions = INSTRUCTIONS

    def __init__(self, shop: Shop, goal: Goal) -> None:
        self.shop, self.goal = shop, goal
        self.reset()

    def reset(self) -> str:
        self._results: list[str] = []
        self._page, self._product, self._chosen = 0, "", dict[str, str]()
        return f"Instruction: {self.goal.text}\n[Search]"

    def act(self, action: str) -> Outcome:
        name, words = parse_call(action, ACTIONS)
        if name == "search":
            if self._results or self._product:
                raise BadAction("Invalid action: there is no search box on this page; click[Back to Search] first.")
            self._results, self._page = self.shop.index.search(words, limit=50), 0
            return Outcome(self._result_page())
        return self._click(words)

    def _click(self, words: str) -> Outcome:
        lower = words.lower()
        if lower == "back to search" and (self._results or self._product):
            self.reset()
            return Outcome("[Search]")
        if self._product:
            return self._click_product(lower)
        if words.upper() in self._results[self._page * PAGE : (self._page + 1) * PAGE]:
            self._product, self._chosen = words.upper(), {}
            return Outcome(self._product_page())
        step = {"next >": 1, "< prev": -1}.get(lower, 0)
        if step and 0 <= (self._page + step) * PAGE < len(self._results):
            self._page += step
            return Outcome(self._result_page())
        raise BadAction(f"Invalid action: nothing on this page is called {words[:60]}.")

    def _click_product(self, lower: str) -> Outcome:
        product = self.shop.products[self._product]
        if lower == "buy now":
            score = float(reward(self.goal, product, self._chosen) >= 1.0)
            return Outcome("Thank you for shopping with us.", done=True, score=score)
        if lower == "< prev":
            self._product = ""
            return Outcome(self._result_page())
        if lower == "description":
            return Outcome(product.description or "No description.")
        if lower == "features":
            return Outcome("\n".join(product.features) or "No features.")
        for name, values in product.options.items():
            if lower in values:
                self._chosen[name] = lower
                return Outcome(f"You have clicked {lower}.")
        raise BadAction(f"Invalid action: nothing on this page is called {lower[:60]}.")

    def _result_page(self) -> str:
        shown = [self.shop.products[asin] for asin in self._results[self._page * PAGE : (self._page + 1) * PAGE]]
        more = [] if (self._page + 1) * PAGE >= len(self._results) else ["[Next >]"]
        head = f"[Back to Search] Page {self._page + 1} ({len(self._results)} products)"
        return "\n".join([head, *(f"[{one.asin}] {one.title}, ${one.price:.2f}" for one in shown), *more])

    def _product_page(self) -> str:
        product = self.shop.products[self._product]
        options = [f"{name}: {' '.join(f'[{value}]' for value in values)}" for name, values in product.options.items()]
        price = f"{product.title}. Price: ${product.price:.2f} [Description] [Features] [Buy Now]"
        return "\n".join(["[Back to Search] [< Prev]", *options, price])


def reward(goal: Goal, product: Product, chosen: Mapping[str, str]) -> float:
    """Equation 1 of the paper: type × (attributes + options + price that agree) / (those asked for)."""
    text = " ".join([product.title, product.description, *product.features]).lower()
    attributes = sum(name in product.attributes or name in text for name in goal.attributes)
    options = sum(value in chosen.values() for value in goal.options)
    price = int(product.price <= goal.max_price)
    return _type(goal, product) * (attributes + options + price) / (len(goal.attributes) + len(goal.options) + 1)


def _type(goal: Goal, product: Product) -> float:
    ours, theirs = _words(product.title), _words(goal.target.title)
    overlap = len(ours & theirs) / max(len(theirs), 1)
    if overlap == 0:
        return 0.0
    if overlap < 0.1:
        return 0.1
    same = product.category == goal.target.category or product.query == goal.target.query
    return 1.0 if overlap > 0.2 or same else 0.5


def _words(title: str) -> set[str]:
    return set(re.findall(r"[a-z]+", title.lower()))


def webshop(data: Path) -> Iterator[WebshopTask]:
    """Every human instruction, in the file's order; raises `TaskError` saying what to put where."""
    folder = data / "webshop"
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise TaskError(f"{folder}: lacks {', '.join(missing)}; WebShop's own setup.sh (-d all or small) downloads them")
    raw, extra, human = (read_json(folder / name) for name in FILES)
    products = [_product(row, extra.get(row["asin"], {})) for row in raw]
    shop = Shop(list({product.asin: product for product in products}.values()))
    for asin, asked in human.items():
        for one in asked if asin in shop.products else ():
            yield WebshopTask(shop, _goal(shop.products[asin], one))


def _product(row: dict[str, Any], extra: dict[str, Any]) -> Product:
    options = {
        name.lower(): tuple(str(one["value"]).strip().lower() for one in values)
        for name, values in (row.get("customization_options") or {}).items() if values
    }
    prices = [float(one.replace(",", "")) for one in re.findall(r"\d[\d,]*\.?\d*", str(row.get("pricing") or ""))]
    return Product(
        row["asin"], row["name"], row.get("full_description") or "", tuple(row.get("small_description") or ()),
        prices[0] if prices else 100.0, options, tuple(extra.get("attributes", ())), row.get("product_category", ""),
        row.get("query", ""),
    )


def _goal(target: Product, asked: dict[str, Any]) -> Goal:
    """The price limit is the next ten dollars up; the paper draws one of the next four."""
    limit = (int(target.price) // 10 + 1) * 10.0
    options = asked.get("instruction_options") or []
    values = options.values() if isinstance(options, dict) else options
    return Goal(
        f"{asked['instruction'].rstrip('.')}, and price lower than {limit:.2f} dollars", target,
        tuple(asked.get("instruction_attributes") or ()), tuple(str(value).lower() for value in values), limit,
    )
