"""Exports for plain Megatron-Core: a torch_dist checkpoint of the same function, multipliers folded in.

A GPTModel without any of our patches loads it with `megatron.core.dist_checkpointing` under the key `model`, in any layout.
The check does just that and compares logits with the trained model's.
"""

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.atomic import write_json, write_text
from recipe.errors import CheckFailed
from recipe.evaluate.heldout import heldout_sets
from recipe.evaluate.live import all_logits, run_logits
from recipe.evaluate.scorers import MegatronScorer
from recipe.export.card import model_card
from recipe.export.check import MAX_RELATIVE, LogitsCheck, check_windows, compare_logits
from recipe.export.fold import Factors, factors
from recipe.export.hf import write_text_files
from recipe.export.llama import correspondences, join, split
from recipe.export.place import MARK, building
from recipe.export.result import Export
from recipe.export.source import Reader, check_names, whole_tensor
from recipe.prepare import load_resolved
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir

ITERATION = "release"  # Megatron-LM's name for weights without optimizer state


def export_megatron(
    reader: Reader, run: RunDir, out_dir: Path, *, dtype: str = "fp32", max_shard_bytes: int = 0, overwrite: bool = False,
    check: bool = True,
) -> Export:
    """Writes, loads into a plain GPTModel, compares logits, moves into place.

    Raises:
        CheckpointError: Tensors are missing, left over or of other shapes than the recipe's.
        CheckFailed: Plain Megatron-Core doesn't give the trained model's logits.
    """
    del max_shard_bytes  # torch_dist has files by rank
    resolved = load_resolved(run).as_trained(reader.state["stage"])
    fold = factors(resolved.config)
    check_names(reader, resolved.config.model)
    sets = heldout_sets(resolved)
    reference = run_logits(run, reader.folder, vocab_size=resolved.config.model.vocab_size) if sets and check else None
    with building(out_dir, overwrite=overwrite) as folder:
        save(folded_state(reader, resolved, fold), resolved, folder / ITERATION, dtype=dtype)
        write_text(folder / "latest_checkpointed_iteration.txt", ITERATION)
        comparison = write_text_files(resolved, folder)
        comparable = reference is not None and dtype == "fp32"
        checked = _check(resolved, folder / ITERATION, reference, check_windows(sets)) if comparable else None
        export = Export(
            folder=out_dir, format="megatron", dtype=dtype, tokens=int(reader.state["tokens"]),
            stage=str(reader.state["stage"]), factors=fold, check=checked, tokenizer=comparison,
        )
        write_json(folder / MARK, export.as_dict())
        write_text(folder / "README.md", model_card(run, resolved, export.as_dict()))
    return export


def folded_state(reader: Reader, resolved: ResolvedRun, fold: Factors) -> dict[str, Any]:
    """Megatron's names with folded tensors."""
    model = resolved.config.model
    state = {}
    for pair in correspondences(model):
        parts = split(whole_tensor(reader, pair.megatron, pair.kind, model).float(), pair.kind, model)
        folded = tuple(fold.apply(part, pair.kind, index) for index, part in enumerate(parts))
        state[pair.megatron] = join(folded, pair.kind, model)
    return state


def plain_model(resolved: ResolvedRun, *, dtype: str = "fp32") -> Any:
    """A GPTModel of this shape in one process, without multipliers."""
    from recipe.alone import build_alone

    config = resolved.config
    plain = config.model_copy(
        update={"mup": config.mup.model_copy(update={"parametrization": "standard"}), "precision": dtype}
    )
    return build_alone(plain)


def save(state: dict[str, Any], resolved: ResolvedRun, folder: Path, *, dtype: str) -> None:
    """As Megatron-LM's `--ckpt-format torch_dist` lays it out."""
    from megatron.core import dist_checkpointing

    model = plain_model(resolved, dtype=dtype)
    load_state(model, state)
    folder.mkdir(parents=True)
    dist_checkpointing.save({"model": model.sharded_state_dict(), "checkpoint_version": 3.0, "iteration": 0}, str(folder))


def load_state(model: Any, state: dict[str, Any]) -> None:
    """Copies logical tensors into a model's parameters; rows that pad the vocabulary stay zero."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_()
            parameter[: state[name].shape[0]].copy_(state[name])


def _check(resolved: ResolvedRun, folder: Path, reference: Any, windows: np.ndarray) -> LogitsCheck:
    from megatron.core import dist_checkpointing

    model = plain_model(resolved)
    loaded = dist_checkpointing.load({"model": model.sharded_state_dict()}, str(folder))
    model.load_state_dict(loaded["model"])
    scorer = MegatronScorer(model, vocab_size=resolved.config.model.vocab_size)
    result = compare_logits(all_logits(scorer), reference, windows)
    if not result.relative <= MAX_RELATIVE:
        raise CheckFailed(f"{folder}: logits differ from the trained model's by {result.relative:.2e} of the largest logit")
    return result
