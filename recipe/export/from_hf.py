"""Reads Llama-like and MiniCPM-like checkpoints as if they were ours: Megatron's names, one tensor at a time.

A plain Llama has no multipliers, so it goes on under `mup.parametrization: standard`; MiniCPM's config names its own. Both
round trips (import, export in the same form) give back the same bits.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipe.config import ModelConfig, MupConfig
from recipe.errors import CheckpointError
from recipe.export.llama import Correspondence, correspondences, join, megatron_shape
from recipe.export.shards import INDEX, SINGLE
from recipe.rundir import read_json

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("llama", "mistral", "minicpm")
# What GPTModel as we build it doesn't compute: key → the one value that is harmless (or its absence).
MUST_BE = {
    "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "rope_scaling": None, "sliding_window": None,
    "quantization_config": None, "num_experts": None, "pretraining_tp": 1,
}


@dataclass(frozen=True)
class ImportedReader:
    """A foreign checkpoint with the interface of ours (`recipe.export.hf.Reader`)."""

    folder: Path
    model: ModelConfig
    mup: MupConfig
    state: dict[str, Any] = field(default_factory=lambda: {"tokens": 0, "stage": "imported"})

    @cached_property
    def _pairs(self) -> dict[str, Correspondence]:
        return {pair.megatron: pair for pair in correspondences(self.model)}

    @cached_property
    def _files(self) -> dict[str, str]:
        return tensor_files(self.folder)

    def names(self) -> list[str]:
        return list(self._pairs)

    def sources(self, name: str) -> tuple[str, ...]:
        """The checkpoint's own names of what makes up one of our tensors."""
        return self._pairs[name].llama

    def tensor(self, name: str, kind: str = "weight") -> "Tensor":
        """The full tensor, in the file's own precision; raises `CheckpointError` for another shape."""
        from safetensors import safe_open

        pair = self._pairs[name]
        parts = []
        for llama_name in pair.llama:
            with safe_open(self.folder / self._files[llama_name], framework="pt") as file:
                parts.append(file.get_tensor(llama_name))
        try:
            joined = join(tuple(parts), pair.kind, self.model)
        except RuntimeError as error:
            raise CheckpointError(f"{self.folder}: {', '.join(pair.llama)} don't fit the config's heads") from error
        if tuple(joined.shape) != megatron_shape(pair.kind, self.model):
            shapes = ", ".join(f"{llama} {tuple(part.shape)}" for llama, part in zip(pair.llama, parts, strict=True))
            raise CheckpointError(
                f"{self.folder}: {shapes} don't make {name} {megatron_shape(pair.kind, self.model)} as config.json has it"
            )
        return joined


def open_huggingface(path: str | Path) -> ImportedReader:
    """Opens a folder with config.json and safetensors.

    Raises:
        CheckpointError: It isn't of a known kind, computes something else, or tensors are missing or left over.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json; an import needs a Hugging Face checkpoint's folder")
    config = read_json(folder / "config.json")
    reader = ImportedReader(folder, _model(config, folder), _mup(config))
    expected = {name for pair in correspondences(reader.model) for name in pair.llama}
    found = set(reader._files)
    if reader.model.tied:
        found -= {"lm_head.weight"}  # some writers store the tied head again
    found = {name for name in found if not name.endswith("rotary_emb.inv_freq")}  # old checkpoints store this constant
    if missing := sorted(expected - found):
        raise CheckpointError(f"{folder}: {len(missing)} tensors are missing, the first is {missing[0]}")
    if extra := sorted(found - expected):
        raise CheckpointError(f"{folder}: {len(extra)} tensors that a Llama lacks, the first is {extra[0]}")
    return reader


def tensor_files(folder: Path) -> dict[str, str]:
    """Tensor name → file; every file is opened, so that one cut short is found here and not half-way."""
    from safetensors import SafetensorError, safe_open

    if (folder / INDEX).is_file():
        files = read_json(folder / INDEX)["weight_map"]
    elif (folder / SINGLE).is_file():
        files = None
    else:
        raise CheckpointError(f"{folder}: neither {SINGLE} nor {INDEX}; convert other formats to safetensors first")
    names: dict[str, str] = {}
    for file in sorted(set(files.values())) if files else [SINGLE]:
        try:
            with safe_open(folder / file, framework="pt") as opened:
                names |= dict.fromkeys(opened.keys(), file)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder / file}: can't be read: {error}") from error
    if files and (lost := sorted(set(files) - set(names))):
        raise CheckpointError(f"{folder}: {INDEX} names {lost[0]}, which {files[lost[0]]} doesn't hold")
    return names


def _model(config: dict[str, Any], folder: Path) -> ModelConfig:
    kind = config.get("model_type")
    if kind not in KINDS:
        raise CheckpointError(f"{folder}/config.json: model_type={kind!r} can't be imported; one of: {', '.join(KINDS)}")
    for key, harmless in MUST_BE.items():
        if config.get(key, harmless) not in (harmless, None):
            raise CheckpointError(f"{folder}/config.json: {key}={config[key]!r}: our model computes {harmless!r} only")
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise CheckpointError(f"{folder}/config.json: rope_type={rope['rope_type']!r}: our model computes 'default' only")
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    if config.get("head_dim") not in (None, hidden // heads):
        raise CheckpointError(f"{folder}/config.json: head_dim={config['head_dim']} isn't hidden_size/heads={hidden // heads}")
    return ModelConfig(
        num_layers=config["num_hidden_layers"], hidden_size=hidden, ffn_hidden_size=config["intermediate_size"],
        num_heads=heads, num_kv_heads=config.get("num_key_value_heads") or heads,
        seq_length_tokens=config.get("max_position_embeddings", 2048), vocab_size=config["vocab_size"],
        tied=config.get("tie_word_embeddings", kind == "minicpm"),  # what each class takes for a key that isn't there
        rope_base=config.get("rope_theta") or rope.get("rope_theta") or 10000.0, norm_eps=config.get("rms_norm_eps", 1e-6),
    )


def _mup(config: dict[str, Any]) -> MupConfig:
    if config["model_type"] != "minicpm":
        return MupConfig(parametrization="standard")
    return MupConfig(
        parametrization="minicpm", dim_model_base=config["dim_model_base"], scale_emb=config["scale_emb"],
        scale_depth=config["scale_depth"], init_std=config.get("initializer_range", 0.1),
    )
