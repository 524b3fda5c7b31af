"""A scripted policy plays each environment to its end; limits and malformed actions are counted."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from recipe.evaluate.agents.alfworld import alfworld
from recipe.evaluate.agents.index import SearchIndex
from recipe.evaluate.agents.react import Episode, play, summary
from recipe.evaluate.agents.run import agent_names
from recipe.evaluate.agents.webshop import webshop
from recipe.evaluate.agents.wikipedia import fever, hotpotqa, normal
from recipe.evaluate.loglikelihood import TaskError
from tests.recipe.evaluate.agents.data import write_alfworld, write_webshop, write_wikipedia


class Script:
    """A policy that says its lines in order, and keeps what it was shown."""

    def __init__(self, *actions: str) -> None:
        self.actions, self.seen = list(actions), []

    def __call__(self, text: str, stops: Sequence[str]) -> str:
        self.seen.append(text)
        action = self.actions.pop(0) if self.actions else "look"
        return f" so be it.\nAction {len(self.seen)}: {action}" if action else " I don't know."


def played(environment, *actions: str, max_steps: int = 20) -> tuple[Episode, Script]:
    script = Script(*actions)
    return play(environment, script, max_steps=max_steps), script


def test_hotpotqa_by_looking_up(tmp_path: Path) -> None:
    (task,) = hotpotqa(write_wikipedia(tmp_path))
    searches = ("Search[arthur's magazine]", "Search[women]", "Search[First for Women]")
    episode, script = played(task, *searches, "Lookup[started]", "Finish[arthur's magazine.]")
    assert (episode.score, episode.ended, episode.num_steps, episode.num_malformed) == (1.0, "done", 5, 0)
    assert "founded in 1844" in script.seen[1]
    assert "Could not find women. Similar: ['First for Women']" in script.seen[2]
    assert "(Result 1 / 1) It was started in 1989." in script.seen[4]
    assert played(task, "Finish[First for Women]")[0].score == 0.0


def test_fever_counts_a_claim_once(tmp_path: Path) -> None:
    (task,) = fever(write_wikipedia(tmp_path))
    assert played(task, "Search[First for Women]", "Finish[REFUTES]")[0].score == 1.0
    assert played(task, "Finish[SUPPORTS]")[0].score == 0.0


def test_malformed_actions_are_counted_and_the_loop_ends(tmp_path: Path) -> None:
    (task,) = hotpotqa(write_wikipedia(tmp_path))
    episode, script = played(task, "", "Fly[to the moon]", "Lookup[x]", "Search[Magazine]", max_steps=4)
    assert (episode.score, episode.ended, episode.num_steps, episode.num_malformed) == (0.0, "limit", 4, 3)
    assert "Actions are: search[...], lookup[...], finish[...]" in script.seen[2]
    told = summary([episode, Episode(score=1.0, num_steps=4, ended="done")], metric="exact_match")
    assert (told["value"], told["malformed_frac"], told["ended"]) == (0.5, 3 / 8, {"done": 1, "limit": 1})


def test_exact_match_ignores_what_squad_ignores() -> None:
    assert normal("The  Arthur's, Magazine!") == normal("arthurs magazine")
    assert normal("yes") != normal("no")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # TextWorld leaves its game file open
def test_alfworlds_own_engine(tmp_path: Path) -> None:
    pytest.importorskip("alfworld")
    (task,) = alfworld(write_alfworld(tmp_path))
    way = ("go to countertop 1", "take apple 1 from countertop 1", "fly", "go to fridge 1", "open fridge 1")
    episode, script = played(task, *way, "move apple 1 to fridge 1")
    assert (episode.score, episode.ended, episode.num_malformed) == (1.0, "done", 1)
    assert "Your task is to: put an apple in the fridge." in script.seen[0]
    assert "On the countertop 1, you see a apple 1" in script.seen[1]
    assert played(task, "look", max_steps=3)[0].ended == "limit"


def test_webshop_rewards_the_right_purchase_only(tmp_path: Path) -> None:
    (task,) = webshop(write_webshop(tmp_path))
    way = ("search[blue cotton towel]", "click[B000000099]", "click[blue]", "click[Features]", "click[Buy Now]")
    episode, script = played(task, *way)
    assert (episode.score, episode.ended) == (1.0, "done")
    assert "price lower than 20.00 dollars" in script.seen[0]
    assert "[B000000099] Soft cotton bath towel, $12.50" in script.seen[1]
    assert played(task, "search[towel]", "click[B000000099]", "click[red]", "click[Buy Now]")[0].score == 0.0
    pages = ("search[grey bath mat]", "click[Next >]", "click[< Prev]", "click[Next >]", "click[Next >]", "search[x]")
    episode, script = played(task, *pages, max_steps=6)
    assert "Page 2 (13 products)" in script.seen[2]
    assert episode.num_malformed == 2


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    for environments, words in ((hotpotqa, "no pages"), (webshop, "items_shuffle.json"), (alfworld, "alfworld")):
        with pytest.raises(TaskError, match=words):
            next(iter(environments(tmp_path)))
    with pytest.raises(TaskError, match="chess: no such benchmark"):
        agent_names("chess")


def test_a_broken_page_is_named_and_leaves_no_index(tmp_path: Path) -> None:
    write_wikipedia(tmp_path)
    (tmp_path / "wikipedia" / "more.jsonl").write_text('{"title": "x"}\n')
    with pytest.raises(TaskError, match=r"more.jsonl:1: no JSON object with title and text"):
        next(hotpotqa(tmp_path))
    assert not (tmp_path / "wikipedia" / "index.sqlite").exists()


def test_search_takes_any_words() -> None:
    index = SearchIndex.in_memory([("Ann's page", "about cats"), ("Other", "about dogs and cats and cats")])
    assert index.search('cats "AND" (dogs* NEAR', limit=5)[0] == "Other"
    assert index.search("!!", limit=5) == []
    assert index.text_of(" ANN'S page ") == "about cats"
