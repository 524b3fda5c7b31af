"""A foreign checkpoint as the first checkpoint of a run: `windtunnel import CHECKPOINT --recipe RECIPE`.

The run trains on from it in any layout, with fresh optimizer moments and its own stages. The recipe must describe the model
that the checkpoint holds, multipliers and tokenizer included; where it doesn't, the differences are named, and taken from
the checkpoint only when asked (`--adopt`). Tensors go through memory a file at a time.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.atomic import write_json
from data_prep.tokenizer import JSON_NAME, MODEL_NAME, load_tokenizer
from recipe.checkpoint.format import INDEX, KINDS, ParameterInfo, PieceInfo, entry, publish, rank_file, run_state, save_tensors
from recipe.config import ModelConfig, MupConfig, RunConfig
from recipe.data import prepare_tokenizer
from recipe.errors import CheckpointError
from recipe.export.from_hf import ImportedReader
from recipe.export.llama import correspondences, megatron_shape
from recipe.prepare import load_resolved
from recipe.resolve import ResolvedRun
from recipe.rundir import STATE, RunDir
from recipe.stream import Ledger

if TYPE_CHECKING:
    from torch import Tensor

STAGE = "imported"
CUT_DIM = {"embedding": 0, "head": 0, "qkv": 0, "fc1": 0, "proj": 1, "fc2": 1}  # as Megatron-Core's layers are cut
FREE_MODEL_KEYS = ("seq_length_tokens", "reset_attention_at_document_end")  # how it is trained on, not what it computes
MULTIPLIERS = ("parametrization", "dim_model_base", "scale_emb", "scale_depth")
MAX_FILE_BYTES = 4 * 2**30


def differences(config: RunConfig, reader: ImportedReader) -> dict[str, tuple[Any, Any]]:
    """Recipe keys at which the recipe's model isn't the checkpoint's: key → (recipe's value, checkpoint's value)."""
    found = {
        f"model.{key}": (getattr(config.model, key), getattr(reader.model, key))
        for key in ModelConfig.model_fields
        if key not in FREE_MODEL_KEYS
    }
    for key in _multipliers(reader):
        found[f"mup.{key}"] = (getattr(config.mup, key), getattr(reader.mup, key))
    return {key: pair for key, pair in found.items() if pair[0] != pair[1]}


def adopt(config: RunConfig, reader: ImportedReader) -> RunConfig:
    """The recipe with the checkpoint's model, multipliers and, where the folder has one, tokenizer."""
    free = {key: getattr(config.model, key) for key in FREE_MODEL_KEYS}
    mup: MupConfig = config.mup.model_copy(update={key: getattr(reader.mup, key) for key in _multipliers(reader)})
    changed: dict[str, Any] = {"model": reader.model.model_copy(update=free).model_dump(), "mup": mup.model_dump()}
    tokenizer = tokenizer_file(reader.folder)
    if tokenizer is not None:
        kind = "file" if tokenizer.name == MODEL_NAME else "huggingface"
        changed["tokenizer"] = {"kind": kind, "path": str(tokenizer.absolute())}
    return RunConfig.model_validate(config.model_dump() | changed)


def _multipliers(reader: ImportedReader) -> tuple[str, ...]:
    """Keys of `mup` that the checkpoint decides: a plain one has no multipliers."""
    return MULTIPLIERS[:1] if reader.mup.parametrization == "standard" else MULTIPLIERS


def tokenizer_file(folder: Path) -> Path | None:
    """The tokenizer beside a checkpoint: SentencePiece's model before a tokenizer.json."""
    return next((path for name in (MODEL_NAME, JSON_NAME) if (path := folder / name).is_file()), None)


def check_fits(config: RunConfig, reader: ImportedReader) -> None:
    """Raises `CheckpointError` naming every key at which the recipe's model isn't the checkpoint's."""
    if found := differences(config, reader):
        lines = [f"{reader.folder}: the recipe describes another model; differences (recipe → checkpoint):"]
        lines += [f"  {key}: {ours} → {theirs}" for key, (ours, theirs) in found.items()]
        options = " ".join(f"-o {key}={theirs}" for key, (_, theirs) in found.items())
        raise CheckpointError("\n".join([*lines, f"  --adopt takes the checkpoint's, or write: {options}"]))
    if config.model.seq_length_tokens > reader.model.seq_length_tokens:
        raise CheckpointError(
            f"{reader.folder}: was made for contexts of {reader.model.seq_length_tokens} tokens "
            f"(max_position_embeddings); model.seq_length_tokens={config.model.seq_length_tokens} is longer"
        )


def check_tensors(reader: ImportedReader) -> None:
    """Reads every tensor once, before anything is made; raises `CheckpointError` naming the first that is no good."""
    for name in reader.names():
        if not reader.tensor(name).isfinite().all():
            raise CheckpointError(f"{reader.folder}: {', '.join(reader.sources(name))}: holds values that aren't finite")


def check_tokenizer(config: RunConfig, folder: Path, *, data_dir: Path | str) -> None:
    """Raises `CheckpointError` where the tokenizer beside the checkpoint isn't the recipe's: ids would mean something else.

    The recipe's is trained where it isn't there yet: only then is it known.
    """
    path = tokenizer_file(folder)
    if path is None:
        return
    theirs, ours = load_tokenizer(path), prepare_tokenizer(config, data_dir=data_dir)
    if theirs.sha256 != ours.sha256:
        kind = "file" if path.name == MODEL_NAME else "huggingface"
        raise CheckpointError(
            f"{path}: the checkpoint's tokenizer is {theirs.hash12}, the recipe's {ours.hash12}: every id would mean something "
            f'else; --adopt takes it, or write: -o "tokenizer={{kind: {kind}, path: {path}}}"'
        )


def write_imported(reader: ImportedReader, run: RunDir) -> Path:
    """Writes the run's checkpoint at 0 tokens; it appears whole or not at all.

    Raises:
        CheckpointError: A tensor can't be read or has another shape; or the run has checkpoints already.
    """
    resolved = load_resolved(run)
    folder = run.checkpoint(STAGE, 0)
    if there := sorted(path.name for path in run.checkpoints.glob("[!.]*-*")):
        raise CheckpointError(f"{run.root}: has checkpoints already ({there[-1]}); import into a new run directory")
    hidden = folder.with_name(f".{folder.name}.tmp")
    hidden.mkdir(parents=True, exist_ok=True)
    for left_over in hidden.iterdir():  # of an import that was killed
        left_over.unlink()
    _write_files(reader, resolved, hidden)
    publish(hidden, folder, {path.name: entry(path) for path in sorted(hidden.iterdir())})
    return folder


def _write_files(reader: ImportedReader, resolved: ResolvedRun, folder: Path) -> None:
    model = resolved.config.model
    infos = {pair.megatron: parameter_info(pair.kind, model) for pair in correspondences(model)}
    pieces: dict[str, list[list[Any]]] = {}
    pending: dict[str, Tensor] = {}
    number = 0
    for name, kinds in _tensors(reader, list(infos)):
        if pending and sum(tensor.nbytes for tensor in (*pending.values(), *kinds.values())) > MAX_FILE_BYTES:
            save_tensors(pending, folder / rank_file(number))
            number, pending = number + 1, {}
        numel = kinds["master"].numel()
        piece = PieceInfo(rank_file(number), 0, 0, numel)
        pending |= {piece.key(kind, name): values for kind, values in kinds.items()}
        pieces[name] = [[piece.file, 0, 0, numel]]
    save_tensors(pending, folder / rank_file(number))
    parameters = {name: vars(info) for name, info in infos.items()}
    write_json(
        folder / INDEX, {"tp": 1, "padded_vocab_size": model.vocab_size, "parameters": parameters, "pieces": pieces}
    )
    state = run_state(resolved, stage=STAGE, step=0, ledger=Ledger().state(), attempt=0)
    write_json(folder / STATE, state | {"imported_from": str(reader.folder.absolute())})


def _tensors(reader: ImportedReader, names: list[str]) -> "Iterator[tuple[str, dict[str, Tensor]]]":
    """Master weights in fp32 (bf16 and fp16 widen exactly) and moments of zero, flattened."""
    import torch

    for name in names:
        master = reader.tensor(name).float().reshape(-1).contiguous()
        yield name, {kind: master if kind == "master" else torch.zeros_like(master) for kind in KINDS}


def parameter_info(kind: str, model: ModelConfig) -> ParameterInfo:
    """How tensor parallelism cuts a logical parameter, as `recipe.checkpoint.writer` finds it on the live model."""
    return ParameterInfo(
        megatron_shape(kind, model), CUT_DIM.get(kind), gated=kind == "fc1", vocabulary=kind in ("embedding", "head")
    )
