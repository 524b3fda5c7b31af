"""Does the model know what it knows? Confidence against accuracy over answers (Figure 4 of the report). No torch itself."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.tokenizer import Tokenizer
from recipe.evaluate.loglikelihood import TaskError, log_likelihoods
from recipe.evaluate.scorers import Scorer
from recipe.evaluate.suite import no_data, read_rows, split_files

MMLU = "cais/mmlu"
LETTERS = ("A", "B", "C", "D")

NUM_BINS = 10
SUBJECTS_THAT_REPEAT = ("all", "auxiliary_train")  # configurations that hold the other subjects' questions again


@dataclass(frozen=True)
class Bin:
    """Questions whose chosen answer had a probability in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Bins that hold something, overall accuracy, and the expected calibration error (Guo et al., arXiv 1706.04599)."""

    bins: tuple[Bin, ...]
    accuracy: float
    ece: float
    num_questions: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def calibration(
    log_likelihoods: NDArray[np.floating], answers: NDArray[np.integer], *, num_bins: int = NUM_BINS
) -> Calibration:
    """Ten equal bins of P(answer), normalised over the choices.

    Args:
        log_likelihoods: Of each choice (A, B, C, D), [num_questions, num_choices].
        answers: Index of the right one, [num_questions].
    """
    scores = np.asarray(log_likelihoods, dtype=np.float64)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    confidence, chosen = shares.max(axis=1), shares.argmax(axis=1)
    right = (chosen == np.asarray(answers)).astype(np.float64)
    place = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    bins, error = [], 0.0
    for index in range(num_bins):
        inside = place == index
        if inside.any():
            found = Bin(
                index / num_bins, (index + 1) / num_bins, int(inside.sum()), float(confidence[inside].mean()),
                float(right[inside].mean()),
            )
            bins.append(found)
            error += found.count / len(right) * abs(found.accuracy - found.confidence)
    return Calibration(tuple(bins), float(right.mean()), error, len(right))


def mmlu_calibration(
    scorer: Scorer, tokenizer: Tokenizer, *, data: Path, max_tokens: int, limit: int | None = None
) -> Calibration:
    """Calibration over A, B, C and D on every MMLU subject (arXiv 2009.03300) in the data folder, zero-shot.

    Raises:
        TaskError: There is no subject; says how to get them.
    """
    folders = [path for path in sorted((data / MMLU).glob("*")) if path.name not in SUBJECTS_THAT_REPEAT]
    if not folders:
        raise TaskError(f"{data / MMLU}: {no_data(data, MMLU)}")
    files = [split_files(data, MMLU, folder.name) for folder in folders]
    rows = [row for found in files if "test" in found for row in read_rows(found["test"])][:limit]
    pairs = []
    for row in rows:
        context = tokenizer.encode(mmlu_prompt(row))
        pairs += [(context, tokenizer.encode(f" {letter}")) for letter in LETTERS]
    scores = [value for value, _ in log_likelihoods(scorer, pairs, max_tokens=max_tokens)]
    return calibration(np.reshape(scores, (-1, len(LETTERS))), np.array([int(row["answer"]) for row in rows]))


def mmlu_prompt(row: dict[str, Any]) -> str:
    """The wording of the paper's own code."""
    choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=True))
    subject = row["subject"].replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {subject}."
    return f"{head}\n\n{row['question'].strip()}\n{choices}\nAnswer:"
