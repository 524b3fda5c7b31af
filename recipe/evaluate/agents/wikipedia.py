"""HotpotQA and FEVER: questions and claims answered by looking things up in a local Wikipedia.

Pages lie as JSON lines {"title", "text"} (text may be a list of sentences) in `<data>/wikipedia/*.jsonl`, .gz or .zst; the
search index is made beside them at first use. Actions and page behaviour are those of the ReAct paper's own environment.
"""

import io
import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_prep.sources.files import open_bytes
from recipe.evaluate.agents.index import SearchIndex
from recipe.evaluate.agents.react import BadAction, Outcome, parse_call
from recipe.evaluate.loglikelihood import TaskError
from recipe.evaluate.suite import read_rows, split_files

NUM_SENTENCES, NUM_SIMILAR = 5, 5
FEVER_LABELS = ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO")
ACTIONS = ("search", "lookup", "finish")

HOTPOT_INSTRUCTIONS = """Answer the question by turns of Thought, Action and Observation. Actions:
Search[title] returns the beginning of the page of that title, or titles like it.
Lookup[words] returns the next sentence with these words on the page found last.
Finish[answer] ends with the answer.

Question: In which country is the river on which Vienna lies longest?
Thought 1: I need the river on which Vienna lies.
Action 1: Search[Vienna]
Observation 1: Vienna is the capital of Austria. It lies on the Danube.
Thought 2: The river is the Danube. I look up its course.
Action 2: Search[Danube]
Observation 2: The Danube is a river in Europe. Its longest stretch, 1,075 km, is in Romania.
Thought 3: It is Romania.
Action 3: Finish[Romania]
Observation 3: Episode finished."""

FEVER_INSTRUCTIONS = """Say whether Wikipedia supports or refutes a claim, by turns of Thought, Action and Observation. Actions:
Search[title] returns the beginning of the page of that title, or titles like it.
Lookup[words] returns the next sentence with these words on the page found last.
Finish[label] ends; labels are SUPPORTS, REFUTES, NOT ENOUGH INFO.

Claim: The Danube flows through Vienna.
Thought 1: I look up the Danube.
Action 1: Search[Danube]
Observation 1: The Danube is a river in Europe. It flows through Vienna and Budapest.
Thought 2: The claim is supported.
Action 2: Finish[SUPPORTS]
Observation 2: Episode finished."""


class WikipediaTask:
    """One question; `right` is the answer, compared after `normal`."""

    def __init__(self, index: SearchIndex, *, instructions: str, asked: str, right: str) -> None:
        self.index, self.instructions, self.asked, self.right = index, instructions, asked, right
        self._sentences: list[str] = []
        self._looked_up: tuple[str, int] = ("", 0)

    def reset(self) -> str:
        self._sentences, self._looked_up = [], ("", 0)
        return self.asked

    def act(self, action: str) -> Outcome:
        name, words = parse_call(action, ACTIONS)
        if name == "search":
            return Outcome(self._search(words))
        if name == "lookup":
            return Outcome(self._lookup(words))
        return Outcome("Episode finished.", done=True, score=float(normal(words) == normal(self.right)))

    def _search(self, title: str) -> str:
        text = self.index.text_of(title)
        if text is None:
            similar = self.index.search(title, limit=NUM_SIMILAR)
            return f"Could not find {title}. Similar: {similar}."
        self._sentences, self._looked_up = sentences(text), ("", 0)
        return " ".join(self._sentences[:NUM_SENTENCES])

    def _lookup(self, words: str) -> str:
        if not self._sentences:
            raise BadAction("Invalid action: there is no page to look in; search first.")
        found = [sentence for sentence in self._sentences if words.lower() in sentence.lower()]
        place = self._looked_up[1] if self._looked_up[0] == words else 0
        self._looked_up = (words, place + 1)
        return f"(Result {place + 1} / {len(found)}) {found[place]}" if place < len(found) else "No more results."


def sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()]


def normal(answer: str) -> str:
    """SQuAD's normalisation (arXiv 1606.05250), which HotpotQA's exact match uses: case, punctuation, articles, spaces."""
    plain = "".join(letter for letter in answer.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def hotpotqa(data: Path) -> Iterator[WikipediaTask]:
    """Validation questions of HotpotQA's full-wiki setting."""
    index = wikipedia(data)
    for row in read_rows(split_files(data, "hotpotqa/hotpot_qa", "fullwiki")["validation"]):
        yield WikipediaTask(
            index, instructions=HOTPOT_INSTRUCTIONS, asked=f"Question: {row['question']}", right=row["answer"]
        )


def fever(data: Path) -> Iterator[WikipediaTask]:
    """Claims of FEVER's labelled development set; the file has a row for each piece of evidence."""
    index, seen = wikipedia(data), Counter[str]()
    for row in read_rows(split_files(data, "fever/fever", "v1.0")["labelled_dev"]):
        seen[row["id"]] += 1
        if seen[row["id"]] == 1:
            yield WikipediaTask(index, instructions=FEVER_INSTRUCTIONS, asked=f"Claim: {row['claim']}", right=row["label"])


def wikipedia(data: Path) -> SearchIndex:
    """The index of `<data>/wikipedia`; raises `TaskError` saying what to put there."""
    folder = data / "wikipedia"
    files = [path for path in sorted(folder.glob("*")) if ".jsonl" in path.suffixes]
    if not files and not (folder / "index.sqlite").is_file():
        raise TaskError(
            f"{folder}: no pages. Put Wikipedia there as JSON lines with title and text: the abstracts that HotpotQA "
            "publishes, or any dump of yours"
        )
    return SearchIndex.in_file(folder / "index.sqlite", _pages(files))


def _pages(files: list[Path]) -> Iterator[tuple[str, str]]:
    import orjson

    for path in files:
        with io.BufferedReader(open_bytes(path)) as file:  # type: ignore[type-var]
            for number, line in enumerate(file, start=1):
                try:
                    row = orjson.loads(line)
                    title, text = row["title"], row["text"]
                    yield title, text if isinstance(text, str) else " ".join(text)
                except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                    raise TaskError(f"{path}:{number}: no JSON object with title and text ({error})") from error
