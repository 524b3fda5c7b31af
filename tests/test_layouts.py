"""Every combination of axes is accepted, or refused with its reason; the parity grid trains one of each accepted kind."""

from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from typing import Any

import pytest
import yaml

from megatron_patches.capabilities import choose_all
from megatron_patches.errors import PatchError
from recipe.errors import ConfigError
from recipe.lower import deepspeed_config, transformer_arguments
from recipe.resolve import resolve
from tests.parity import GRID, config_of, world_of

AXES: dict[str, tuple] = {
    "tp": (1, 2, 4), "cp": (1, 2), "pp": (1, 2, 4), "vp": (1, 2), "dp": (1, 2), "zero": (0, 1, 2, 3), "sp": (False, True),
    "recompute": ("none", "selective", "full"), "offload_optimizer": (False, True), "tied": (True, False),
    "precision": ("fp32", "bf16"),
}
# What is refused, and what the message must say; nothing else may be. The README's table says the same.
REFUSED: tuple[tuple[Callable[[dict[str, Any]], bool], str], ...] = (
    (lambda at: at["sp"] and at["tp"] == 1, "parallel.sp=true needs parallel.tp above 1"),
    (lambda at: at["vp"] > 1 and at["pp"] == 1, "parallel.vp=2 needs parallel.pp above 1"),
    (lambda at: at["zero"] == 3 and at["pp"] > 1, "would hang in DeepSpeed's gathers"),
    (lambda at: at["offload_optimizer"] and at["zero"] == 0, "parallel.offload_optimizer needs parallel.zero of 1, 2 or 3"),
    (lambda at: at["vp"] > 1 and at["pp"] * at["dp"] > 4, "is not a multiple of"),  # the ramp starts at 4 sequences
)


def combinations() -> Iterator[dict[str, Any]]:
    for values in product(*AXES.values()):
        yield dict(zip(AXES, values, strict=True))


def cell(layout: dict[str, Any]) -> tuple:
    """What a layout stands for in the support matrix: which axes split the model, and the ZeRO stage."""
    return (*(layout.get(axis, 1) > 1 for axis in ("tp", "cp", "pp", "vp")), layout.get("zero", 1))


def refusals(layout: dict[str, Any]) -> list[str]:
    return [message for refuses, message in REFUSED if refuses(layout)]


def test_every_combination_is_accepted_or_refused_with_its_reason() -> None:
    counted: Counter[bool] = Counter()
    for layout in combinations():
        expected = refusals(layout)
        counted[bool(expected)] += 1
        if expected:
            with pytest.raises(ConfigError) as caught:
                resolve(config_of(layout), world_size=world_of(layout))
            assert any(message in str(caught.value) for message in expected), layout
            continue
        resolved = resolve(config_of(layout), world_size=world_of(layout))
        assert resolved.layout.dp == layout["dp"]
        assert transformer_arguments(resolved)["tensor_model_parallel_size"] == layout["tp"]
        assert deepspeed_config(resolved)["zero_optimization"]["stage"] == max(1, layout["zero"])
    assert counted[True] + counted[False] == 13824
    assert counted[False] > 1000


def test_the_grid_trains_one_of_each_accepted_cell() -> None:
    grid = yaml.safe_load(GRID.read_text())
    accepted = {cell(layout) for layout in combinations() if not refusals(layout)}
    assert accepted - {cell(layout) for layout in grid} == set()
    assert len(accepted) == 40
    for key in ("sp", "tied", "recompute", "offload_optimizer", "layers_per_stage", "vocab_size", "cross_entropy", "attention"):
        assert any(key in layout for layout in grid), key


def test_fewer_key_value_heads_than_tensor_parallel_ranks_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"parallel\.tp=8 does not divide model\.num_kv_heads=4; nearest: 4"):
        resolve(config_of({"tp": 8}), world_size=8)


def test_documents_are_kept_apart_without_context_parallelism_only() -> None:
    config = config_of({"cp": 2})
    packed = config.model_copy(update={"model": config.model.model_copy(update={"reset_attention_at_document_end": True})})
    with pytest.raises(ConfigError, match=r"reset_attention_at_document_end with parallel\.cp=2"):
        resolve(packed, world_size=2)


def test_backends_are_named_as_in_the_table_and_must_be_here() -> None:
    unknown, absent = (config_of({"adam": name}) for name in ("adamw", "apex"))
    with pytest.raises(ConfigError, match=r"backends\.adam='adamw' is unknown; one of: transformer_engine, apex"):
        resolve(unknown, world_size=1)
    assert resolve(absent, world_size=1).config.backends.adam == "apex"  # it may be there where the run starts
    if find_spec("apex") is None:
        with pytest.raises(PatchError, match=r"adam='apex' can't be used here: apex is not installed; available: torch"):
            choose_all({"adam": "apex"})
    assert choose_all({"cross_entropy": "unfused"})["cross_entropy"] == "unfused"
    assert choose_all({})["cross_entropy"] == "chunked"
