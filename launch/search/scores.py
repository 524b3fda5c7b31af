"""Evaluation tasks in an objective, each as a loss: `arc_easy:bits` and `arc_easy:error` (recipe/evaluate/gold.py)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.tokenizer import Tokenizer
from launch.search.errors import SearchError
from launch.search.options import by_source
from recipe.evaluate.suite import TASKS

if TYPE_CHECKING:
    from recipe.engine import Engine
    from recipe.evaluate.gold import GoldScore, Question

BITS, ERROR = ":bits", ":error"
METRICS = (
    *(f"{name}{BITS}" for name, task in TASKS.items() if task.harness),
    *(f"{name}{ERROR}" for name, task in TASKS.items() if task.metric == "acc"),
)
"""Bits per byte of the right answers; share of questions of which a wrong choice is likelier (1 − accuracy)."""


def tasks_of(metrics: Iterable[str]) -> list[str]:
    """The tasks among what an objective is made of, each once."""
    return list(dict.fromkeys(name.rpartition(":")[0] for name in metrics if name in METRICS))


def unit_of(metrics: Iterable[str]) -> str:
    """Of an objective: losses of sources have one, a sum with scores doesn't."""
    return "of the objective" if tasks_of(metrics) else "nats per token"


def objective_weights(texts: Sequence[str], sources: Sequence[str], *, data: str) -> dict[str, float]:
    """`--weight` by source or metric.

    Args:
        texts: `code=1`, `arc_easy:bits=2`.
        sources: Those of the stages.
        data: Folder with the tasks' data.

    Raises:
        SearchError: Another name.
        TaskError: A task's data is missing.
    """
    named = [text.partition("=")[0] for text in texts]
    if unknown := [name for name in named if ":" in name and name not in METRICS]:
        raise SearchError(f"--weight {unknown[0]}: no such metric; there are, beside the sources: {', '.join(METRICS)}")
    weights = by_source("--weight", texts, [*sources, *(name for name in named if name in METRICS)])
    if tasks := tasks_of(weights):
        from recipe.evaluate.loglikelihood import TaskError
        from recipe.evaluate.tasks import prepare_tasks

        if missing := prepare_tasks(tasks, data=Path(data))[1]:
            raise TaskError("\n".join(f"--eval-data: {name}: {why}" for name, why in missing.items()))
    return weights


class Scores:
    """Scores models in training; questions are tokenized once."""

    def __init__(self, tokenizer: Tokenizer, *, data: str) -> None:
        self._tokenizer, self._data = tokenizer, Path(data)
        self._questions: dict[tuple[str, int | None], list[Question]] = {}

    def of(self, engine: "Engine", metrics: Iterable[str], *, limit: int | None) -> dict[str, float]:
        """Metric → value of the engine's model, which is in evaluation mode and at its last stage.

        Args:
            engine: After the last step.
            metrics: Of `METRICS`; other names are passed over.
            limit: First questions of each task.
        """
        if not (tasks := tasks_of(metrics)):
            return {}
        from recipe.evaluate.gold import gold_score
        from recipe.evaluate.scorers import MegatronScorer

        config = engine.resolved.config
        model = config.model_at(config.stages[-1].name)
        scorer = MegatronScorer(engine.chunks[0], vocab_size=model.vocab_size)
        return _chosen(metrics, {
            name: gold_score(scorer, self._of_task(name, limit), max_tokens=model.seq_length_tokens) for name in tasks
        })  # fmt: skip

    def of_nothing(self, metrics: Iterable[str], *, limit: int | None, vocab_size: int) -> dict[str, float]:
        """Metric → what a model counts as that came to nothing."""
        from recipe.evaluate.gold import uniform_score

        found = {name: uniform_score(self._of_task(name, limit), vocab_size=vocab_size) for name in tasks_of(metrics)}
        return _chosen(metrics, found)

    def _of_task(self, name: str, limit: int | None) -> "list[Question]":
        from recipe.evaluate.gold import gold_questions

        if (name, limit) not in self._questions:
            questions = gold_questions(name, tokenizer=self._tokenizer, data=self._data, limit=limit)
            self._questions[name, limit] = questions
        return self._questions[name, limit]


def _chosen(metrics: Iterable[str], found: "dict[str, GoldScore]") -> dict[str, float]:
    values = {f"{name}{BITS}": score.bits_per_byte for name, score in found.items()}
    values |= {f"{name}{ERROR}": score.error_frac for name, score in found.items()}
    return {name: values[name] for name in metrics if name in values}
