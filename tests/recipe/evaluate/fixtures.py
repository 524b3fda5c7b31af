"""Data sets of the report's tasks, a few questions each, under their public names and in their public formats."""

from pathlib import Path

import orjson

from recipe.rundir import write_text

QUESTIONS = [
    ("What do plants need to make sugar?", ["light", "iron and copper", "a mirror", "the sound of rain"], 0),
    ("Which of these is a mammal?", ["a trout", "the whale", "an oak", "a bee that lives in a hive"], 1),
    ("What freezes at zero degrees Celsius?", ["air", "gold", "water", "sand on a beach in summer"], 2),
    ("Why does the moon shine?", ["It burns.", "It is made of ice.", "Lightning.", "It reflects the light of the sun."], 3),
    ("What pulls a falling stone down?", ["gravity", "magnetism", "heat", "wind"], 0),
]
LETTERS = ["A", "B", "C", "D"]
MATH_SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra", "precalculus",
)


def _put(folder: Path, rows: list[dict], splits: tuple[str, ...]) -> None:
    for split in splits:
        write_text(folder / f"{split}.jsonl", "".join(orjson.dumps(row).decode() + "\n" for row in rows))


def write_datasets(data: Path) -> Path:
    """Every data set of the suite but HumanEval's, which comes as a package."""
    arc = [
        {"id": str(n), "question": q, "choices": {"text": c, "label": LETTERS}, "answerKey": LETTERS[a]}
        for n, (q, c, a) in enumerate(QUESTIONS)
    ]
    for name in ("ARC-Easy", "ARC-Challenge"):
        _put(data / "allenai/ai2_arc" / name, arc, ("train", "validation", "test"))
    boolq = [{"passage": f"{q} {c[a]}", "question": f"is it {c[0]}", "label": int(a == 0), "idx": 0} for q, c, a in QUESTIONS]
    _put(data / "aps/super_glue/boolq", boolq, ("train", "validation"))
    swag = [
        {"ind": n, "activity_label": "Science", "ctx_a": q, "ctx_b": "the teacher says", "ctx": f"{q} the teacher says",
         "endings": c, "label": str(a), "source_id": "x", "split": "val", "split_type": "indomain"}
        for n, (q, c, a) in enumerate(QUESTIONS)
    ]
    _put(data / "Rowan/hellaswag/default", swag, ("train", "validation"))
    book = [{"id": str(n), "question_stem": q, "choices": {"text": c, "label": LETTERS}, "answerKey": LETTERS[a]}
            for n, (q, c, a) in enumerate(QUESTIONS)]
    _put(data / "allenai/openbookqa/main", book, ("train", "validation", "test"))
    piqa = [{"goal": q, "sol1": c[a], "sol2": c[a - 1], "label": 0} for q, c, a in QUESTIONS]
    _put(data / "baber/piqa/default", piqa, ("train", "validation"))
    sciq = [{"question": q, "distractor1": c[a - 1], "distractor2": c[a - 2], "distractor3": c[a - 3], "correct_answer": c[a],
             "support": "A book says so."} for q, c, a in QUESTIONS]
    _put(data / "allenai/sciq/default", sciq, ("train", "validation", "test"))
    options = {"option1": "the stone", "option2": "the glass", "answer": "2"}
    grande = [{"sentence": f"The stone hit the glass and _ broke, {q}"} | options for q, _, _ in QUESTIONS]
    _put(data / "allenai/winogrande/winogrande_xl", grande, ("train", "validation"))
    gsm = [{"question": f"Ann has {n} apples and buys 2. How many has she?", "answer": f"{n} + 2 = {n + 2}\n#### {n + 2}"}
           for n in range(1, 8)]
    _put(data / "openai/gsm8k/main", gsm, ("train", "test"))
    mmlu = [{"question": q, "subject": "anatomy", "choices": c, "answer": a} for q, c, a in QUESTIONS]
    for subject in harness_names("mmlu/default", "mmlu_"):
        _put(data / "cais/mmlu" / subject, [row | {"subject": subject} for row in mmlu], ("dev", "validation", "test"))
    problem = {"problem": "What is $1+2$?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{3}$."}
    for subject in MATH_SUBJECTS:
        _put(data / "EleutherAI/hendrycks_math" / subject, [problem] * 3, ("train", "test"))
    for name in harness_names("bbh/cot_fewshot", ""):
        _put(data / "SaylorTwift/bbh" / name, [{"input": "not True is", "target": "False"}] * 3, ("test",))
    add = {"text": "Add two numbers.", "code": "def add(a, b):\n    return a + b", "test_list": ["assert add(1, 2) == 3"]}
    for split in ("prompt", "test"):
        _put(data / "google-research-datasets/mbpp/full", [add | {"task_id": n} for n in range(3)], (split,))
    return data


def harness_names(folder: str, prefix: str) -> list[str]:
    """Configurations that the installed harness has of a family: `mmlu_anatomy.yaml` → anatomy."""
    import lm_eval

    files = (Path(lm_eval.__file__).parent / "tasks" / folder).glob(f"{prefix}*.yaml")
    return sorted(path.stem.removeprefix(prefix) for path in files if not path.name.startswith("_"))
