"""A few tasks of each agent benchmark in its public format."""

import gzip
import json
from pathlib import Path

from recipe.rundir import write_json, write_text

PAGES = [
    {"title": "Arthur's Magazine", "text": ["Arthur's Magazine was an American periodical.", "It was founded in 1844."]},
    {"title": "First for Women", "text": "First for Women is a magazine. It was started in 1989. It is published in the USA."},
    {"title": "Magazine", "text": "A magazine is a periodical."},
]
PROBLEM = """(define (problem put_apple) (:domain alfred)
 (:objects agent1 - agent AppleType - otype CounterTopType FridgeType - rtype Apple_bar_1 - object
  CounterTop_bar_1 Fridge_bar_1 - receptacle loc_bar_0 loc_bar_1 loc_bar_2 - location)
 (:init (= (total-cost) 0) (receptacleType CounterTop_bar_1 CounterTopType) (receptacleType Fridge_bar_1 FridgeType)
  (objectType Apple_bar_1 AppleType) (canContain FridgeType AppleType) (canContain CounterTopType AppleType)
  (pickupable Apple_bar_1) (openable Fridge_bar_1) (atLocation agent1 loc_bar_0)
  (receptacleAtLocation CounterTop_bar_1 loc_bar_1) (receptacleAtLocation Fridge_bar_1 loc_bar_2)
  (objectAtLocation Apple_bar_1 loc_bar_1) (inReceptacle Apple_bar_1 CounterTop_bar_1))
 (:goal (and (exists (?r - receptacle) (exists (?o - object)
  (and (inReceptacle ?o ?r) (objectType ?o AppleType) (receptacleType ?r FridgeType))))))
 (:metric minimize (total-cost)))
"""


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_wikipedia(data: Path) -> Path:
    (data / "wikipedia").mkdir(parents=True)
    with gzip.open(data / "wikipedia" / "pages.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(lines(PAGES))
    asked = {"id": "1", "question": "Which magazine was started first, Arthur's Magazine or First for Women?"}
    write_text(data / "hotpotqa/hotpot_qa/fullwiki/validation.jsonl", lines([asked | {"answer": "Arthur's Magazine"}]))
    claim = {"id": 7, "claim": "First for Women was started in 1844.", "label": "REFUTES"}
    write_text(data / "fever/fever/v1.0/labelled_dev.jsonl", lines([claim, claim]))
    return data


def write_alfworld(data: Path) -> Path:
    from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH

    grammar = Path(ALFRED_TWL2_PATH).read_text().replace("UNKNOWN GOAL", "put an apple in the fridge")
    game = {"pddl_domain": Path(ALFRED_PDDL_PATH).read_text(), "grammar": grammar, "pddl_problem": PROBLEM, "solvable": True}
    write_json(data / "alfworld/json_2.1.1/valid_unseen/pick_and_place/trial_1/game.tw-pddl", game)
    return data


def write_webshop(data: Path) -> Path:
    def product(number: int, name: str, price: str, colors: list[str]) -> dict:
        options = {"Color": [{"value": color, "image": None} for color in colors]}
        return {
            "asin": f"B0{number:08d}", "name": name, "full_description": f"{name} for every day", "pricing": price,
            "small_description": ["machine washable"], "customization_options": options, "product_category": "home › bath",
            "query": "towel",
        }

    towels = [product(n, f"Grey bath mat number {n}", "$9.99", ["grey"]) for n in range(12)]
    wanted = product(99, "Soft cotton bath towel", "$12.50", ["Blue", "Red"])
    write_json(data / "webshop/items_shuffle.json", [*towels, wanted])
    write_json(data / "webshop/items_ins_v2.json", {wanted["asin"]: {"attributes": ["cotton", "machine washable"]}})
    instruction = {"instruction": "i want a blue cotton towel", "instruction_attributes": ["cotton"]}
    write_json(data / "webshop/items_human_ins.json", {wanted["asin"]: [instruction | {"instruction_options": ["blue"]}]})
    return data
