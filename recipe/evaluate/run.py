"""Evaluates one checkpoint of a run and writes the results into its directory: `windtunnel eval RUN`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.atomic import write_json
from data_prep.tokenizer import Tokenizer
from recipe.checkpoint.reader import CheckpointReader
from recipe.evaluate.generate import continuations
from recipe.evaluate.heldout import bytes_per_token, evaluate_heldout, heldout_sets, write_heldout
from recipe.evaluate.live import Logits, run_logits, token_nats
from recipe.evaluate.tokenizer import tokenizer_of
from recipe.evaluate.windows import seen_windows
from recipe.prepare import load_resolved
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir

PROMPT_TOKENS, SAMPLE_TOKENS = 48, 96
MAX_SAMPLES = 8


def evaluate_checkpoint(run: RunDir, checkpoint: Path, *, baselines: bool = True, samples: bool = True) -> dict[str, Any]:
    """Held-out loss by source with baselines, and sample continuations.

    Returns:
        What was written into `eval/heldout-<stage>-<tokens>.json`.
    """
    resolved = load_resolved(run)
    state = CheckpointReader(checkpoint).state
    stage, tokens = str(state["stage"]), int(state["tokens"])
    logits = run_logits(run, checkpoint, vocab_size=resolved.config.model.vocab_size)
    tokenizer = tokenizer_of(resolved)
    sets = heldout_sets(resolved)
    seen = seen_windows(resolved, state["ledger"]["drawn"]) if baselines else None
    sources = evaluate_heldout(
        lambda windows: token_nats(logits, windows), sets, token_bytes=model_bytes(tokenizer, resolved), seen=seen
    )
    write_heldout(run.heldout(stage, tokens), stage=stage, tokens=tokens, sources=sources)
    if samples:
        path = run.eval / f"samples-{stage}-{tokens:015d}.json"
        write_json(path, {"tokens": tokens, "stage": stage, "samples": sample(logits, sets, tokenizer, resolved)})
    return {"tokens": tokens, "stage": stage, "sources": sources}


def model_bytes(tokenizer: Tokenizer, resolved: ResolvedRun) -> np.ndarray:
    """Bytes of text behind each id of the model, whose vocabulary may be larger than the tokenizer's."""
    lengths = np.zeros(resolved.config.model.vocab_size, dtype=np.int64)
    lengths[: tokenizer.vocab_size] = bytes_per_token(tokenizer)
    return lengths


def sample(
    logits: Logits, sets: Mapping[str, np.ndarray], tokenizer: Tokenizer, resolved: ResolvedRun
) -> list[dict[str, str]]:
    """The first held-out tokens of each source, and how the model goes on; nothing is selected."""
    seq = resolved.config.model.seq_length_tokens
    length = min(PROMPT_TOKENS, seq // 2)
    names = [name for name, windows in sets.items() if windows.shape[1] > length][:MAX_SAMPLES]
    if not names:
        return []
    prompts = np.stack([sets[name][0, :length] for name in names])
    added = continuations(
        logits, prompts, max_new_tokens=min(SAMPLE_TOKENS, seq - length), context_tokens=seq, stop_id=tokenizer.eod_id
    )
    return [
        {"source": name, "prompt": tokenizer.decode(prompt.tolist()), "continuation": tokenizer.decode(new)}
        for name, prompt, new in zip(names, prompts, added, strict=True)
    ]
