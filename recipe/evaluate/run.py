"""Evaluates one checkpoint and writes the results into its run's directory: `windtunnel eval RUN`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.atomic import write_json
from data_prep.tokenizer import Tokenizer, load_tokenizer
from recipe.checkpoint.reader import CheckpointReader
from recipe.errors import RecipeError
from recipe.evaluate.agents.run import run_agents
from recipe.evaluate.byindex import loss_curve, text_windows
from recipe.evaluate.calibration import mmlu_calibration
from recipe.evaluate.generate import continuations
from recipe.evaluate.heldout import bytes_per_token, evaluate_heldout, heldout_sets, write_heldout
from recipe.evaluate.live import all_logits, load_huggingface, run_scorer, token_nats
from recipe.evaluate.scorers import HuggingFaceScorer, Scorer
from recipe.evaluate.tasks import run_tasks
from recipe.evaluate.tokenizer import tokenizer_of
from recipe.evaluate.windows import seen_windows
from recipe.prepare import load_resolved
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir, read_json

PROMPT_TOKENS, SAMPLE_TOKENS = 48, 96
MAX_SAMPLES = 8
BY_NAME = ("tasks", "agents")  # kinds whose files gather results of several evaluations of one checkpoint


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to evaluate.

    Attributes:
        heldout: Loss by source on the run's held-out documents.
        baselines: Counting models beside it.
        samples: Continuations of held-out beginnings.
        tasks: Names of `suite.TASKS`.
        data: Folder with the tasks' data.
        limit: Questions of each task.
        skip_missing: Leave out tasks whose data is not there.
        agents: Names of `agents.run.BENCHMARKS`.
        calibration: Figure 4, on MMLU's data.
        by_index: Figure 5, on a text file or a source's held-out documents; "" leaves it out.
    """

    heldout: bool = True
    baselines: bool = True
    samples: bool = True
    tasks: tuple[str, ...] = ()
    data: str = "eval-data"
    limit: int | None = None
    skip_missing: bool = False
    agents: tuple[str, ...] = ()
    calibration: bool = False
    by_index: str = ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to evaluate; `sets` are held-out windows by source, empty for an export."""

    scorer: Scorer
    tokenizer: Tokenizer
    max_tokens: int
    stage: str
    tokens: int
    sets: Mapping[str, np.ndarray] = field(default_factory=dict)


def open_run(run: RunDir, checkpoint: Path) -> Subject:
    """A run's checkpoint, in the layout of the processes that there are."""
    resolved, state = load_resolved(run), CheckpointReader(checkpoint).state
    model = resolved.config.model_at(state["stage"])
    return Subject(
        scorer=run_scorer(run, checkpoint, vocab_size=model.vocab_size), tokenizer=tokenizer_of(resolved),
        max_tokens=model.seq_length_tokens, stage=str(state["stage"]), tokens=int(state["tokens"]),
        sets=heldout_sets(resolved),
    )


def open_export(folder: Path) -> Subject:
    """An exported or any other Llama-like checkpoint of transformers, with the tokenizer that lies beside it."""
    facts = read_json(folder / "export.json") if (folder / "export.json").is_file() else {}
    model = load_huggingface(folder)
    return Subject(
        scorer=HuggingFaceScorer(model), tokenizer=load_tokenizer(folder), max_tokens=model.config.max_position_embeddings,
        stage=str(facts.get("stage", "export")), tokens=int(facts.get("tokens", 0)),
    )


def evaluate_checkpoint(run: RunDir, checkpoint: Path, wanted: Wanted, *, is_writer: bool = True) -> dict[str, Any]:
    """Everything that is wanted of a run's checkpoint; `is_writer` ranks write the files of `RUN/eval`.

    Returns:
        {"stage", "tokens"} and, as wanted, "sources", "tasks", "agents", "calibration", "by_index".
    """
    resolved, subject = load_resolved(run), open_run(run, checkpoint)
    result: dict[str, Any] = {"stage": subject.stage, "tokens": subject.tokens}
    if wanted.heldout:
        result["sources"] = _heldout(run, resolved, checkpoint, subject, wanted, is_writer=is_writer)
    for kind, found in _others(subject, wanted).items():
        result[kind] = found
        path = run.evaluation(kind.replace("_", "-"), subject.stage, subject.tokens)
        before = read_json(path)[kind] if kind in BY_NAME and path.is_file() else {}
        if is_writer:
            write_json(path, {"stage": subject.stage, "tokens": subject.tokens, kind: before | found})
    return result


def evaluate_export(folder: Path, wanted: Wanted) -> dict[str, Any]:
    """The same of an exported checkpoint, without what needs the run's own held-out text; writes nothing."""
    subject = open_export(folder)
    return {"stage": subject.stage, "tokens": subject.tokens, **_others(subject, wanted)}


def _heldout(
    run: RunDir, resolved: ResolvedRun, checkpoint: Path, subject: Subject, wanted: Wanted, *, is_writer: bool
) -> dict[str, dict[str, Any]]:
    logits = all_logits(subject.scorer)
    drawn = CheckpointReader(checkpoint).state["ledger"]["drawn"]
    seen = seen_windows(resolved, drawn) if wanted.baselines and is_writer else None
    sources = evaluate_heldout(
        lambda windows: token_nats(logits, windows), subject.sets, token_bytes=model_bytes(subject.tokenizer, resolved),
        seen=seen,
    )
    samples = sample(subject) if wanted.samples else []
    if is_writer:
        write_heldout(run.heldout(subject.stage, subject.tokens), stage=subject.stage, tokens=subject.tokens, sources=sources)
        if samples:
            path = run.evaluation("samples", subject.stage, subject.tokens)
            write_json(path, {"stage": subject.stage, "tokens": subject.tokens, "samples": samples})
    return sources


def _others(subject: Subject, wanted: Wanted) -> dict[str, dict[str, Any]]:
    """Tasks, calibration and loss by index, as wanted."""
    scorer, tokenizer, data = subject.scorer, subject.tokenizer, Path(wanted.data)
    found: dict[str, dict[str, Any]] = {}
    if wanted.by_index:
        logits = all_logits(scorer)
        found["by_index"] = {"text": wanted.by_index, **loss_curve(logits, _index_windows(subject, wanted.by_index))}
    if wanted.calibration:
        curve = mmlu_calibration(scorer, tokenizer, data=data, max_tokens=subject.max_tokens, limit=wanted.limit)
        found["calibration"] = curve.as_dict()
    if wanted.agents:
        found["agents"] = run_agents(
            scorer, tokenizer, wanted.agents, data=data, max_tokens=subject.max_tokens, limit=wanted.limit
        )
    if wanted.tasks:
        found["tasks"] = run_tasks(
            scorer, tokenizer, wanted.tasks, data=data, max_tokens=subject.max_tokens, limit=wanted.limit,
            skip_missing=wanted.skip_missing,
        )
    return found


def _index_windows(subject: Subject, text: str) -> np.ndarray:
    if text in subject.sets:
        return subject.sets[text]
    if not Path(text).is_file():
        known = f"; sources: {', '.join(subject.sets)}" if subject.sets else ""
        raise RecipeError(f"--by-index {text}: no such text file{known}")
    return text_windows(Path(text), subject.tokenizer, seq_length_tokens=subject.max_tokens)


def model_bytes(tokenizer: Tokenizer, resolved: ResolvedRun) -> np.ndarray:
    """Bytes of text behind each id of the model, whose vocabulary may be larger than the tokenizer's."""
    lengths = np.zeros(resolved.config.model.vocab_size, dtype=np.int64)
    lengths[: tokenizer.vocab_size] = bytes_per_token(tokenizer)
    return lengths


def sample(subject: Subject) -> list[dict[str, str]]:
    """The first held-out tokens of each source, and how the model goes on; nothing is selected."""
    tokenizer, context = subject.tokenizer, subject.max_tokens
    length = min(PROMPT_TOKENS, context // 2)
    names = [name for name, windows in subject.sets.items() if windows.shape[1] > length][:MAX_SAMPLES]
    if not names:
        return []
    prompts = np.stack([subject.sets[name][0, :length] for name in names])
    added = continuations(
        subject.scorer, prompts, max_new_tokens=min(SAMPLE_TOKENS, context - length), context_tokens=context,
        stop_id=tokenizer.eod_id,
    )
    return [
        {"source": name, "prompt": tokenizer.decode(prompt.tolist()), "continuation": tokenizer.decode(new)}
        for name, prompt, new in zip(names, prompts, added, strict=True)
    ]
