"""Run directories as training leaves them, small and known, for the report's tests."""

import json
from math import exp
from pathlib import Path

import numpy as np

from megatron_patches.mup.coordcheck import Measurement, Setting, as_json, judge
from megatron_patches.mup.coordinates import MODULES
from megatron_patches.mup.rules import Mup
from recipe.config import RunConfig
from recipe.evaluate.calibration import calibration
from recipe.evaluate.powerlaw import fit
from recipe.prepare import load_resolved
from recipe.resolve import resolve
from recipe.rundir import RunDir, write_json, write_text

RECIPE = {
    "name": "small",
    "model": {
        "num_layers": 2, "hidden_size": 32, "ffn_hidden_size": 64, "num_heads": 4, "num_kv_heads": 2, "seq_length_tokens": 16,
        "vocab_size": 300,
    },
    "sources": {
        "docs": {"path": "docs/*.jsonl"}, "code": {"path": "code/*.jsonl"},
        "sums": {"path": "sums/*.jsonl", "kind": "sft", "category": "math"},
    },
    "stages": [
        {"name": "stable", "tokens": 19200, "mixture": {"docs": 60, "code": 40}},
        {"name": "decay", "tokens": 6400, "mixture": {"docs": 30, "sums": 70}, "lr": {"shape": "linear"}},
    ],
    "optim": {"peak_lr": 0.01},
    "batch": {"global_tokens": 64},
}


def write_run(root: Path, *, num_steps: int = 400, worse_by: float = 0.0) -> RunDir:
    """A run of 400 steps, restarted once, evaluated twice, that loses to the trigram on one source."""
    config = RunConfig.model_validate(RECIPE | {"name": root.name})
    resolved = resolve(config, world_size=1)
    run = RunDir(root)
    write_json(run.resolved, resolved.model_dump(mode="json"))
    write_text(run.recipe, json.dumps(RECIPE))
    write_json(run.versions, {"torch": "2.13.0", "note": "<script>alert(1)</script>"})
    write_json(run.patches, [{"name": "mup.embedding", "why": "output × scale_emb"}])
    lines = [json.dumps(_step(step, resolved, worse_by)) for step in range(num_steps)]
    write_text(run.metrics, "\n".join(lines) + "\n")
    begun = [{"event": "start", "attempt": 1}, {"event": "audit", "attempt": 1}, {"event": "resume", "attempt": 2}]
    write_text(run.events, "".join(json.dumps(event) + "\n" for event in begun))
    for tokens, better in ((19200, 0.0), (25600, 0.5)):
        write_json(run.heldout("stable" if better == 0 else "decay", tokens), _heldout(tokens, worse_by - better))
    samples = [{"source": "docs", "prompt": "Once <b>", "continuation": " upon & a time"}]
    write_json(run.eval / "samples-decay-000000000025600.json", {"tokens": 25600, "stage": "decay", "samples": samples})
    return run


def write_evaluations(run: RunDir, *, tokens: int = 25600) -> None:
    """Tasks, agents, a calibration, loss by token index that follows the report's law, and the planner's word."""
    tasks = {name: {"value": 0.25, "metric": "acc", "few_shot": 0, "num_questions": 40} for name in ("arc_easy", "piqa")}
    agents = {"hotpotqa": {"value": 0.5, "metric": "exact_match", "num_questions": 2, "mean_steps": 3.0, "malformed_frac": 0.1}}
    rng = np.random.default_rng(0)
    curve = calibration(rng.normal(size=(500, 4)), rng.integers(4, size=500)).as_dict()
    index = np.arange(1, 129)
    loss = 1.772 + (index / 32.84) ** -0.575 + rng.normal(0, 0.01, 128)
    law = fit(index, loss, error=np.full(128, 0.01)).as_dict()
    values = {"index": index.tolist(), "loss_nats": loss.tolist(), "error_nats": [0.01] * 128}
    by_index = {"text": "wiki.txt", "num_windows": 40, "fit": law, **values}
    for kind, found in (("tasks", tasks), ("agents", agents), ("calibration", curve), ("by-index", by_index)):
        key = kind.replace("-", "_")
        write_json(run.evaluation(kind, "decay", tokens), {"stage": "decay", "tokens": tokens, key: found})
    memory = {"device": 2**30}
    word = {"device": "cpu-node", "label": "dp 1", "step_s": 0.08, "tokens_per_s": 800.0, "memory_bytes": memory}
    write_json(run.plan, word | {"outside_validation": ["precision fp32"]})


def write_coord_check(run: RunDir, slopes: dict[str, float], **other: float) -> None:
    """A coordinate check whose activations grow by these powers of the width, by module; all others stay flat."""
    own = load_resolved(run).config.mup
    table = {name: getattr(own, name) for name in ("scale_emb", "scale_depth", "init_std", "alpha")} | other
    mup = Mup(own.parametrization, base_width=64, width=64, base_depth=2, depth=2, **table)
    measured = []
    for seed in (1, 2):
        for size in (64, 128, 256):
            values = {module: (1 + 0.01 * seed) * size ** slopes.get(module, 0.0) for module in MODULES}
            measured.append(Measurement("width", size, seed, values, [values, values], [5.0, 4.0]))
    write_json(run.coord_check, as_json(mup, Setting(steps=2), measured, judge(measured)))


def _step(step: int, resolved, worse_by: float) -> dict:
    tokens = 64 * (step + 1)
    return {
        "step": step + 1, "stage": resolved.stages[resolved.stage_at(step)].name, "tokens": tokens,
        "loss": 2 + worse_by + 4 * exp(-step / 60) + 0.05 * (-1) ** step, "grad_norm": 0.5, "lr": 0.01, "lr_by_role": {},
        "batch_seqs": 4, "tokens_per_s": 1000.0, "step_s": 0.064, "phase_s": {"data": 0.004, "optimizer": 0.06}, "tflops": 0.1,
        "mfu_frac": 0.25, "attempt": 1 if step < 250 else 2, "skipped": False,
    }


def _heldout(tokens: int, add: float) -> dict:
    counts = {"unigram": 5.0, "bigram": 3.5, "trigram": 3.0}
    row = {"bits_per_byte": 1.5, "num_tokens": 1600, "num_bytes": 5000, "baselines": counts}
    sources = {"docs": row | {"loss_nats": 2.75 + add}, "code": row | {"loss_nats": 3.75 + add}}
    return {"tokens": tokens, "stage": "x", "sources": sources}
