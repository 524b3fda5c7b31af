"""Exports a run's checkpoint as a plain `LlamaForCausalLM`: `windtunnel export RUN`.

One tensor at a time goes from the checkpoint into a shard, so memory is that of the largest shard. The result is written
beside its place, loaded by plain transformers, compared with the trained model on held-out text, and only then moved there.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from data_prep.atomic import write_json, write_text
from recipe.config import ModelConfig
from recipe.errors import CheckpointError
from recipe.evaluate.heldout import heldout_sets
from recipe.evaluate.live import Logits, run_logits
from recipe.evaluate.tokenizer import tokenizer_of
from recipe.evaluate.windows import resolved_of
from recipe.export.card import model_card
from recipe.export.chat import chat_template
from recipe.export.check import LogitsCheck, check_export, check_windows
from recipe.export.fold import Factors, factors
from recipe.export.llama import correspondences, llama_config, megatron_shape, split
from recipe.export.place import MARK, building
from recipe.export.shards import remove_shards, write_shards
from recipe.export.texts import heldout_texts
from recipe.export.tokenizer_files import Comparison, write_tokenizer
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir, read_json

if TYPE_CHECKING:
    from torch import Tensor

MAX_SHARD_BYTES = 4 * 2**30
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class Reader(Protocol):
    """What export needs of a checkpoint: full tensors under Megatron's names, whatever layout wrote them."""

    path: Path
    state: dict[str, Any]

    def names(self) -> list[str]: ...

    def tensor(self, name: str, kind: str = "weight") -> "Tensor": ...


@dataclass(frozen=True)
class Export:
    """What an export was made of and how it fared."""

    folder: Path
    format: str
    dtype: str
    tokens: int
    stage: str
    factors: Factors
    check: LogitsCheck | None
    tokenizer: Comparison | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "format": self.format, "dtype": self.dtype, "tokens": self.tokens, "stage": self.stage,
            "factors": asdict(self.factors),
            "check": self.check.as_dict() if self.check else None,
            "tokenizer": asdict(self.tokenizer) if self.tokenizer else None,
        }


def export_hf(
    reader: Reader, run: RunDir, out_dir: Path, *, dtype: str = "fp32", max_shard_bytes: int = MAX_SHARD_BYTES,
    overwrite: bool = False,
) -> Export:
    """Writes, checks and moves into place.

    Raises:
        CheckpointError: Tensors are missing, left over or of other shapes than the recipe's.
        RunError: `out_dir` is there already.
        CheckFailed: Plain transformers doesn't give the trained model's logits.
    """
    resolved = resolved_of(run)
    fold = factors(resolved.config)
    check_names(reader, resolved.config.model)
    with building(out_dir, overwrite=overwrite) as folder:
        tensors = folded_tensors(reader, resolved.config.model, fold)
        write_shards(tensors, folder, max_shard_bytes=max_shard_bytes)
        comparison = _write_small_files(resolved, folder)
        checked = _check(run, resolved, reader.path, folder)
        if dtype == "bf16":
            _round(reader, resolved, fold, folder, max_shard_bytes=max_shard_bytes)
        export = Export(
            out_dir, "hf", dtype, int(reader.state["tokens"]), str(reader.state["stage"]), fold, checked, comparison
        )
        write_json(folder / MARK, export.as_dict())
        write_text(folder / "README.md", model_card(run, resolved, export.as_dict()))
    return export


def check_names(reader: Reader, model: ModelConfig) -> None:
    """Every tensor of the model is there, and nothing else; raises `CheckpointError` naming them."""
    expected = {pair.megatron for pair in correspondences(model)}
    found = set(reader.names())
    if missing := sorted(expected - found):
        raise CheckpointError(f"{reader.path}: {len(missing)} tensors are missing, the first is {missing[0]}")
    if extra := sorted(found - expected):
        raise CheckpointError(f"{reader.path}: {len(extra)} tensors that this recipe's model lacks, the first is {extra[0]}")


def whole_tensor(reader: Reader, name: str, kind: str, model: ModelConfig) -> "Tensor":
    """One tensor in fp32 without vocabulary padding; raises `CheckpointError` for another shape."""
    tensor, shape = reader.tensor(name), megatron_shape(kind, model)
    rows_fit = tensor.shape[0] >= shape[0] if kind in ("embedding", "head") else tensor.shape[0] == shape[0]
    if not rows_fit or tuple(tensor.shape[1:]) != shape[1:]:
        raise CheckpointError(f"{reader.path}: {name} has the shape {tuple(tensor.shape)}, the recipe's model {shape}")
    return tensor[: shape[0]].float()


def folded_tensors(
    reader: Reader, model: ModelConfig, fold: Factors, *, dtype: "Any" = None
) -> "Iterator[tuple[str, Tensor]]":
    """Llama's names and tensors, multipliers folded in."""
    for pair in correspondences(model):
        parts = split(whole_tensor(reader, pair.megatron, pair.kind, model), pair.kind, model)
        for index, (name, part) in enumerate(zip(pair.llama, parts, strict=True)):
            folded = fold.apply(part, pair.kind, index)
            yield name, folded if dtype is None else folded.to(dtype)


def _write_small_files(resolved: ResolvedRun, folder: Path) -> Comparison | None:
    tokenizer = tokenizer_of(resolved)
    eos = tokenizer.eod_id
    bos = tokenizer.processor.bos_id() if tokenizer.kind == "sentencepiece" else None  # type: ignore[attr-defined]
    ids = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": eos}
    write_json(folder / "config.json", llama_config(resolved.config.model, dtype="float32", **ids))
    write_json(folder / "generation_config.json", {**ids, "do_sample": True, "temperature": 0.7, "top_p": 0.95})
    return write_tokenizer(
        tokenizer, folder, texts=heldout_texts(resolved, tokenizer),
        max_tokens=resolved.config.model.seq_length_tokens, chat_template=chat_template(resolved.config),
    )


def _check(run: RunDir, resolved: ResolvedRun, checkpoint: Path, folder: Path) -> LogitsCheck | None:
    sets = heldout_sets(resolved)
    if not sets:
        return None
    reference: Logits = run_logits(run, checkpoint, vocab_size=resolved.config.model.vocab_size)
    return check_export(folder, reference, check_windows(sets))


def _round(reader: Reader, resolved: ResolvedRun, fold: Factors, folder: Path, *, max_shard_bytes: int) -> None:
    """Replaces the checked fp32 shards by bf16 ones."""
    import torch

    remove_shards(folder)
    model = resolved.config.model
    write_shards(folded_tensors(reader, model, fold, dtype=torch.bfloat16), folder, max_shard_bytes=max_shard_bytes)
    write_json(folder / "config.json", read_json(folder / "config.json") | {"dtype": "bfloat16", "torch_dtype": "bfloat16"})
