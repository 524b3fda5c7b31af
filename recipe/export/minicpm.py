"""Exports in MiniCPM's form: weights as trained, multipliers in the config, for those who train on."""

from pathlib import Path
from typing import Any

from data_prep.atomic import write_json, write_text
from recipe.config import RunConfig
from recipe.errors import CheckFailed, RunError
from recipe.export.card import model_card
from recipe.export.fold import Factors
from recipe.export.from_hf import open_huggingface
from recipe.export.hf import MAX_SHARD_BYTES, special_ids, write_text_files
from recipe.export.llama import llama_config
from recipe.export.place import MARK, building
from recipe.export.result import Export
from recipe.export.shards import write_shards
from recipe.export.source import Reader, check_names, llama_tensors
from recipe.prepare import load_resolved
from recipe.rundir import RunDir

EXPRESSIBLE = ("minicpm", "standard")


def export_minicpm(
    reader: Reader, run: RunDir, out_dir: Path, *, dtype: str = "fp32", max_shard_bytes: int = MAX_SHARD_BYTES,
    overwrite: bool = False, check: bool = True,
) -> Export:
    """Writes, reads it back tensor by tensor, and moves it into place.

    Raises:
        RunError: The parametrization has factors that MiniCPM's config has no key for; or `out_dir` is there already.
        CheckFailed: What was written doesn't read back as the same bits.
    """
    import torch

    resolved = load_resolved(run).as_trained(reader.state["stage"])
    config = resolved.config
    target = torch.bfloat16 if dtype == "bf16" else torch.float32
    check_names(reader, config.model)
    with building(out_dir, overwrite=overwrite) as folder:
        name = str(target).removeprefix("torch.")
        write_json(folder / "config.json", minicpm_config(config, dtype=name, **special_ids(resolved)))
        tensors = llama_tensors(reader, config.model, Factors(), dtype=target)
        write_shards(tensors, folder, max_shard_bytes=max_shard_bytes)
        comparison = write_text_files(resolved, folder)
        back = open_huggingface(folder)
        for tensor in reader.names() if check else ():
            if not torch.equal(back.tensor(tensor), reader.tensor(tensor)[: back.tensor(tensor).shape[0]].to(target)):
                raise CheckFailed(f"{folder}: {tensor} doesn't read back as it was written")
        export = Export(
            folder=out_dir, format="minicpm", dtype=dtype, tokens=int(reader.state["tokens"]),
            stage=str(reader.state["stage"]), factors=Factors(), tokenizer=comparison,
        )
        write_json(folder / MARK, export.as_dict())
        write_text(folder / "README.md", model_card(run, resolved, export.as_dict()))
    return export


def minicpm_config(config: RunConfig, *, dtype: str, **extra: Any) -> dict[str, Any]:
    """`config.json` of MiniCPMForCausalLM (arXiv 2404.06395, released code)."""
    mup = config.mup
    if mup.parametrization not in EXPRESSIBLE:
        raise RunError(
            f"mup.parametrization={mup.parametrization}: MiniCPM's config can't say its attention scale or depth factors; "
            "use --format hf, which folds them in"
        )
    plain = mup.parametrization == "standard"
    hidden, depth = config.model.hidden_size, config.model.num_layers
    return llama_config(config.model, dtype=dtype, **extra) | {
        "architectures": ["MiniCPMForCausalLM"],
        "model_type": "minicpm",
        "scale_emb": 1 if plain else mup.scale_emb,
        "scale_depth": depth**0.5 if plain else mup.scale_depth,
        "dim_model_base": hidden if plain else mup.dim_model_base,
        "initializer_range": mup.init_std,
        "rope_scaling": None,
    }
