"""The report's suite on one model: the harness's tasks, and programs judged in the sandbox."""

import logging
from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from data_prep.tokenizer import Tokenizer
from recipe.evaluate.code import evaluate_code, humaneval, mbpp
from recipe.evaluate.loglikelihood import TaskError
from recipe.evaluate.scorers import Scorer
from recipe.evaluate.sharing import of_first_rank
from recipe.evaluate.suite import TASKS, local_datasets

MAX_PROGRAM_TOKENS = 512
FAMILIES = (
    "arc", "super_glue", "hellaswag", "openbookqa", "piqa", "sciq", "winogrande", "gsm8k", "minerva_math", "bbh", "mmlu",
)  # folders of the harness's tasks


def run_tasks(
    scorer: Scorer, tokenizer: Tokenizer, names: Sequence[str], *, data: Path, max_tokens: int, limit: int | None = None,
    skip_missing: bool = False,
) -> dict[str, dict[str, Any]]:
    """Evaluates tasks; all their data is looked for before the first is run.

    Args:
        scorer: The model.
        tokenizer: Its tokenizer.
        names: Of `suite.TASKS`.
        data: Folder with the data sets.
        max_tokens: The model's context.
        limit: Questions of each task, the first ones; all where None.
        skip_missing: Leave out tasks whose data is not there instead of refusing.

    Returns:
        Task → {"value" (a share), "metric", "few_shot", "num_questions"} and, for programs, "reasons"; {"missing": why}
        for a task that was left out.

    Raises:
        TaskError: Data is missing; names every data set and how to get it.
    """
    found, missing = prepare_tasks(names, data=data)
    if missing and not skip_missing:
        lines = [f"{name}: {why}" for name, why in missing.items()]
        raise TaskError("\n".join([*lines, "with --skip-missing the other tasks are run without these"]))
    results: dict[str, dict[str, Any]] = {name: {"missing": why} for name, why in missing.items()}
    if harness := [name for name in found if TASKS[name].harness]:
        results |= _run_harness(scorer, tokenizer, harness, data=data, max_tokens=max_tokens, limit=limit)
    complete = partial(_complete, scorer, tokenizer, max_tokens)
    for name, problems in found.items():
        if not TASKS[name].harness:
            judged = evaluate_code(problems[:limit], complete)
            facts = {"value": judged["pass@1"], "num_questions": judged["num_problems"], "reasons": judged["reasons"]}
            results[name] = facts | {"metric": "pass@1", "few_shot": TASKS[name].few_shot}
    return {name: results[name] for name in names}


def prepare_tasks(names: Iterable[str], *, data: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(task → its problems or the harness's object, task → why it can't be run)."""
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            found[name] = _load(name, data)
        except TaskError as error:
            missing[name] = str(error)
    return found, missing


def _load(name: str, data: Path) -> Any:
    if name == "humaneval":
        return humaneval()
    if name == "mbpp":
        return mbpp(data)
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise TaskError('the LM Evaluation Harness is not installed; pip install "lm-eval[math]"') from error
    from lm_eval.tasks import get_task_dict

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with local_datasets(data):
        return get_task_dict(list(TASKS[name].harness), _manager())


@cache
def _manager() -> Any:
    """The harness's index of the families that the suite is of; that of all its tasks would read thousands of files."""
    import lm_eval.tasks

    root = Path(lm_eval.tasks.__file__).parent
    return lm_eval.tasks.TaskManager(include_path=[str(root / family) for family in FAMILIES], include_defaults=False)


def _run_harness(
    scorer: Scorer, tokenizer: Tokenizer, names: Iterable[str], *, data: Path, max_tokens: int, limit: int | None
) -> dict[str, dict[str, Any]]:
    from lm_eval.evaluator import simple_evaluate

    from recipe.evaluate.harness import WindtunnelLM

    model = WindtunnelLM(scorer, tokenizer, max_tokens=max_tokens)
    results = {}
    for name in names:
        task = TASKS[name]
        with local_datasets(data):
            told = simple_evaluate(
                model, tasks=list(task.harness), limit=limit, bootstrap_iters=0, log_samples=False, task_manager=_manager()
            )
        results[name] = of_first_rank(told and harness_result(told, name))  # a node's other processes are told None
    return results


def harness_result(told: dict[str, Any], name: str) -> dict[str, Any]:
    """One of the suite's tasks out of the harness's answer; several of the harness's count by their questions."""
    task = TASKS[name]
    values = [_value(told["results"][one], task.metric) for one in task.harness]
    counts = {one: count["effective"] for one, count in told["n-samples"].items()}
    total = sum(counts.values())
    shares = [1.0] if len(task.harness) == 1 else [counts[one] / total for one in task.harness]
    value = sum(value * share for value, share in zip(values, shares, strict=True))
    return {"value": value, "metric": task.metric, "few_shot": task.few_shot, "num_questions": total}


def _value(metrics: dict[str, Any], wanted: str) -> float:
    """`acc,none` and `exact_match,strict-match` are the harness's names; the first filter is the task's own."""
    return float(next(value for key, value in metrics.items() if key.split(",")[0] == wanted))


def _complete(scorer: Scorer, tokenizer: Tokenizer, max_tokens: int, prompt: str, stops: Sequence[str]) -> str:
    from recipe.evaluate.harness import greedy_until

    room = min(MAX_PROGRAM_TOKENS, max_tokens // 2)
    return greedy_until(scorer, tokenizer, prompt, stops=stops, max_new_tokens=room, context_tokens=max_tokens)
