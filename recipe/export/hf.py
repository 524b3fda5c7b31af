"""Exports a checkpoint as a plain `LlamaForCausalLM`: `windtunnel export RUN`.

One tensor at a time goes from the checkpoint into a shard, so writing takes the memory of the largest shard. The result is
written beside its place, loaded by plain transformers, compared with the trained model on held-out text (that takes two
models' memory; `--no-check` leaves it out, and the card says so), and only then moved there.
"""

from pathlib import Path

from data_prep.atomic import write_json, write_text
from recipe.evaluate.heldout import heldout_sets
from recipe.evaluate.live import Logits, run_logits
from recipe.evaluate.tokenizer import tokenizer_of
from recipe.export.card import model_card
from recipe.export.chat import chat_template
from recipe.export.check import LogitsCheck, check_export, check_windows
from recipe.export.fold import Factors, factors
from recipe.export.llama import llama_config
from recipe.export.place import MARK, building
from recipe.export.result import Export
from recipe.export.shards import remove_shards, write_shards
from recipe.export.source import Reader, check_names, llama_tensors
from recipe.export.texts import heldout_texts
from recipe.export.tokenizer_files import Comparison, write_tokenizer
from recipe.prepare import load_resolved
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir, read_json

MAX_SHARD_BYTES = 4 * 2**30


def export_hf(
    reader: Reader, run: RunDir, out_dir: Path, *, dtype: str = "fp32", max_shard_bytes: int = MAX_SHARD_BYTES,
    overwrite: bool = False, check: bool = True,
) -> Export:
    """Writes, checks and moves into place.

    Raises:
        CheckpointError: Tensors are missing, left over or of other shapes than the recipe's.
        RunError: `out_dir` is there already.
        CheckFailed: Plain transformers doesn't give the trained model's logits.
    """
    resolved = load_resolved(run).as_trained(reader.state["stage"])
    model, fold = resolved.config.model, factors(resolved.config)
    check_names(reader, model)
    with building(out_dir, overwrite=overwrite) as folder:
        write_shards(llama_tensors(reader, model, fold), folder, max_shard_bytes=max_shard_bytes)
        write_json(folder / "config.json", llama_config(model, dtype="float32", **special_ids(resolved)))
        comparison = write_text_files(resolved, folder)
        checked = _check(run, resolved, reader.folder, folder) if check else None
        if dtype == "bf16":
            _round(reader, resolved, fold, folder, max_shard_bytes=max_shard_bytes)
        export = Export(
            folder=out_dir, format="hf", dtype=dtype, tokens=int(reader.state["tokens"]), stage=str(reader.state["stage"]),
            factors=fold, check=checked, tokenizer=comparison,
        )
        write_json(folder / MARK, export.as_dict())
        write_text(folder / "README.md", model_card(run, resolved, export.as_dict()))
    return export


def special_ids(resolved: ResolvedRun) -> dict[str, int | None]:
    """Ids that configs name; padding is the end of a document, which nothing attends to beyond."""
    tokenizer = tokenizer_of(resolved)
    bos = tokenizer.processor.bos_id() if tokenizer.kind == "sentencepiece" else None  # type: ignore[attr-defined]
    return {"bos_token_id": bos, "eos_token_id": tokenizer.eod_id, "pad_token_id": tokenizer.eod_id}


def write_text_files(resolved: ResolvedRun, folder: Path) -> Comparison | None:
    """Generation config, tokenizer and chat template."""
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.95}
    write_json(folder / "generation_config.json", special_ids(resolved) | sampling)
    tokenizer = tokenizer_of(resolved)
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
    tensors = llama_tensors(reader, resolved.config.model, fold, dtype=torch.bfloat16)
    write_shards(tensors, folder, max_shard_bytes=max_shard_bytes)
    write_json(folder / "config.json", read_json(folder / "config.json") | {"dtype": "bfloat16", "torch_dtype": "bfloat16"})
