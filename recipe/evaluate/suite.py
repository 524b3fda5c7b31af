"""The report's tasks by name, and where each finds its data: a local folder, never the network. No torch.

A data set lies under its public name, in the public format: `<data>/<owner>/<name>/<configuration>/<split>.jsonl` or
`.parquet` (`default` where it has no configurations).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.evaluate.loglikelihood import TaskError

SUFFIXES = {".jsonl": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class Task:
    """One line of the report's tables.

    Attributes:
        harness: Its names in the LM Evaluation Harness, whose results are averaged over their questions; none where it runs
            here (recipe/evaluate/code.py).
        few_shot: Examples before the question.
        metric: What the report counts.
        reported: Xmodel-2-1.2B's value, in per cent.
    """

    harness: tuple[str, ...]
    few_shot: int
    metric: str
    reported: float


MATH = tuple(
    f"minerva_math_{subject}"
    for subject in ("algebra", "counting_and_prob", "geometry", "intermediate_algebra", "num_theory", "prealgebra", "precalc")
)
COMMONSENSE = {
    "arc_challenge": Task(("arc_challenge",), 0, "acc", 39.16),
    "arc_easy": Task(("arc_easy",), 0, "acc", 71.55),
    "boolq": Task(("boolq",), 0, "acc", 74.65),
    "hellaswag": Task(("hellaswag",), 0, "acc", 47.45),
    "openbookqa": Task(("openbookqa",), 0, "acc", 29.20),
    "piqa": Task(("piqa",), 0, "acc", 74.81),
    "sciq": Task(("sciq",), 0, "acc", 93.60),
    "winogrande": Task(("winogrande",), 0, "acc", 63.93),
}
REASONING = {
    "gsm8k": Task(("gsm8k",), 5, "exact_match", 55.88),
    "math": Task(MATH, 4, "exact_match", 25.50),
    "bbh": Task(("bbh_cot_fewshot",), 3, "exact_match", 48.40),
    "mmlu": Task(("mmlu",), 0, "acc", 48.87),
    "humaneval": Task((), 0, "pass@1", 29.88),
    "mbpp": Task((), 3, "pass@1", 29.20),
}
TASKS = COMMONSENSE | REASONING
GROUPS = {"commonsense": tuple(COMMONSENSE), "reasoning": tuple(REASONING), "all": tuple(TASKS)}


def task_names(wanted: str) -> list[str]:
    """`commonsense,gsm8k` → names; raises `TaskError` for one that isn't known."""
    names: list[str] = []
    for name in filter(None, (part.strip() for part in wanted.split(","))):
        if name not in GROUPS and name not in TASKS:
            raise TaskError(f"--tasks {name}: no such task; groups: {', '.join(GROUPS)}; tasks: {', '.join(TASKS)}")
        names += [task for task in GROUPS.get(name, (name,)) if task not in names]
    return names


def dataset_folder(data: Path, path: str, name: str | None) -> Path:
    return data / path / (name or "default")


def split_files(data: Path, path: str, name: str | None) -> dict[str, Path]:
    """Split → file; raises `TaskError` saying what to put where."""
    folder = dataset_folder(data, path, name)
    files = {file.stem: file for file in sorted(folder.glob("*")) if file.suffix in SUFFIXES}
    if not files:
        raise TaskError(f"{folder}: {no_data(data, path)}")
    return files


def no_data(data: Path, path: str) -> str:
    """What to say of a missing data set: one shell line fetches all its configurations into their places."""
    fetch = (
        f"python -c \"import datasets as d; [s.to_json(f'{data}/{path}/{{c}}/{{n}}.jsonl') "
        f"for c in d.get_dataset_config_names('{path}') for n, s in d.load_dataset('{path}', c).items()]\""
    )
    return f"no data. Nothing is downloaded here; where there is a network: {fetch}"


@contextmanager
def local_datasets(data: Path) -> Iterator[None]:
    """Within it, the harness's tasks read the local folder instead of asking a hub."""
    import datasets

    def load(path: str, name: str | None = None, *, split: str | None = None, **_options: Any) -> Any:
        files = split_files(data, path, name)
        loaded = datasets.DatasetDict(
            {one: datasets.Dataset.from_list(read_rows(file)) for one, file in files.items()}  # no cache outside our folders
        )
        return loaded[split] if split else loaded

    datasets.disable_progress_bars()
    original = datasets.load_dataset
    datasets.load_dataset = load
    try:
        yield
    finally:
        datasets.load_dataset = original


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Records of a JSONL or Parquet file; raises `TaskError` naming file and line."""
    import orjson
    import pyarrow.parquet

    if file.suffix == ".parquet":
        return pyarrow.parquet.read_table(file).to_pylist()
    rows = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            rows.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise TaskError(f"{file}:{number}: not JSON ({error})") from error
    return rows
