"""Tasks as numbers that small models move: bits per byte of the right answers, and the share of wrong choices.

Accuracy of a small model is mostly chance; the likelihood of the right answers falls smoothly long before it, so it is what
choices between short runs go by. Questions are tokenized once and serve any number of models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from data_prep.tokenizer import Tokenizer
from recipe.evaluate.loglikelihood import Pair, TaskError, log_likelihoods
from recipe.evaluate.scorers import Scorer
from recipe.evaluate.suite import TASKS
from recipe.evaluate.tasks import prepare_tasks


@dataclass(frozen=True)
class Question:
    """One question of a task."""

    pairs: tuple[Pair, ...]
    """Context and continuation of each choice; of the right answer alone where there are no choices."""
    gold: int
    """Which of them is right."""
    gold_bytes: int
    """Of the right answer's text."""


@dataclass(frozen=True)
class GoldScore:
    """Of one model on one task; of both, less is better."""

    bits_per_byte: float
    """Of the right answers, given their questions."""
    error_frac: float
    """Questions of which another choice is likelier; 0 where there are no choices."""


def gold_questions(name: str, *, tokenizer: Tokenizer, data: Path, limit: int | None = None) -> list[Question]:
    """The questions of a task, with the harness's prompts and examples.

    Args:
        name: Of `suite.TASKS`, one of the harness's.
        tokenizer: Of the models.
        data: Folder with the data sets.
        limit: The first so many of each of its parts; all where None.

    Raises:
        TaskError: Its data is missing, or its answers are programs.
    """
    if not TASKS[name].harness:
        raise TaskError(f"{name}: programs are judged by running them; there is no right answer whose likelihood could count")
    found, missing = prepare_tasks([name], data=data)
    if missing:
        raise TaskError(f"{name}: {missing[name]}")
    from recipe.evaluate.harness import WindtunnelLM

    encode = WindtunnelLM(None, tokenizer, max_tokens=1)._encode_pair  # type: ignore[arg-type]  # asks no model
    questions = []
    for task in _leaves(found[name]):
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        by_document: dict[int, list[Any]] = {}
        for instance in task.instances:
            by_document.setdefault(instance.doc_id, []).append(instance)
        for instances in by_document.values():
            texts, gold = _answers(task, instances)
            pairs = tuple(encode(context, continuation) for context, continuation in texts)
            questions.append(Question(pairs, gold, len(texts[gold][1].encode())))
    return questions


def gold_score(scorer: Scorer, questions: Sequence[Question], *, max_tokens: int) -> GoldScore:
    """Scores a model; `max_tokens` is its context."""
    pairs = [pair for question in questions for pair in question.pairs]
    found = iter(log_likelihoods(scorer, pairs, max_tokens=max_tokens))
    nats, wrong = 0.0, 0
    for question in questions:
        values = [next(found)[0] for _ in question.pairs]
        nats -= values[question.gold]
        wrong += max(range(len(values)), key=values.__getitem__) != question.gold
    return GoldScore(_bits_per_byte(nats, questions), wrong / len(questions))


def uniform_score(questions: Sequence[Question], *, vocab_size: int) -> GoldScore:
    """Of a model that knows nothing and is always wrong: what a run that came to nothing counts as."""
    num_tokens = sum(len(question.pairs[question.gold][1]) for question in questions)
    return GoldScore(_bits_per_byte(num_tokens * log(vocab_size), questions), 1.0)


def _bits_per_byte(nats: float, questions: Sequence[Question]) -> float:
    return nats / log(2) / max(1, sum(question.gold_bytes for question in questions))


def _leaves(tasks: Any) -> Iterator[Any]:
    """The harness's task objects, out of groups of groups."""
    for task in tasks.values():
        if isinstance(task, dict):
            yield from _leaves(task)
        else:
            yield task


def _answers(task: Any, instances: Sequence[Any]) -> tuple[list[tuple[str, str]], int]:
    """(context, continuation) of each answer, and which is right."""
    document = instances[0].doc
    if task.OUTPUT_TYPE != "multiple_choice":
        right = f"{task.config.target_delimiter}{task.doc_to_target(document)}"
        return [(instances[0].args[0], right)], 0
    gold = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    if isinstance(gold, str):
        gold = task.doc_to_choice(document).index(gold)
    return [instance.args for instance in sorted(instances, key=lambda one: one.idx)], int(gold)
