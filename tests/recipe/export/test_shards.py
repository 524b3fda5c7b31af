"""Streaming shards: what transformers' index says, no shard above the limit, tensors unchanged."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recipe.errors import RunError
from recipe.export.place import MARK, building
from recipe.export.shards import INDEX, SINGLE, write_shards
from recipe.rundir import read_json


def tensors() -> dict[str, torch.Tensor]:
    return {f"t{number}": torch.randn(10, 10) for number in range(7)}  # 400 bytes each


def test_shards_hold_everything_once(tmp_path: Path) -> None:
    wanted = tensors()
    files = write_shards(iter(wanted.items()), tmp_path, max_shard_bytes=900)
    index = read_json(tmp_path / INDEX)
    assert index["weight_map"] == files
    assert index["metadata"]["total_size"] == 7 * 400
    assert sorted(set(files.values())) == [f"model-0000{n}-of-00004.safetensors" for n in (1, 2, 3, 4)]
    for file in set(files.values()):
        held = load_file(tmp_path / file)
        assert sum(tensor.nbytes for tensor in held.values()) <= 900
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in held.items())


def test_a_small_model_is_one_file_without_index(tmp_path: Path) -> None:
    write_shards(iter(tensors().items()), tmp_path, max_shard_bytes=10**6)
    assert [path.name for path in tmp_path.iterdir()] == [SINGLE]


def test_a_tensor_above_the_limit_gets_a_shard_of_its_own(tmp_path: Path) -> None:
    files = write_shards(iter(tensors().items()), tmp_path, max_shard_bytes=10)
    assert len(set(files.values())) == 7


def test_no_more_than_a_shard_is_in_memory(tmp_path: Path) -> None:
    """Bytes of the tensors that are alive, counted as each is made and freed: the model has 64 KiB, a shard 8."""
    alive = highest = 0

    def freed(size: int) -> None:
        nonlocal alive
        alive -= size

    def made() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal alive, highest
        for number in range(64):
            tensor = torch.zeros(256)
            alive += tensor.nbytes
            highest = max(highest, alive)
            weakref.finalize(tensor, freed, tensor.nbytes)
            yield f"t{number}", tensor

    write_shards(made(), tmp_path, max_shard_bytes=8 * 1024)
    assert len(list(tmp_path.glob("*.safetensors"))) == 8
    assert highest <= (8 + 2) * 1024  # a shard, the tensor that no longer fits, the one being made


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    def half() -> None:
        with building(tmp_path / "hf", overwrite=False) as folder:
            (folder / "half").write_text("written")
            raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        half()
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_is_replaced_only_when_asked(tmp_path: Path) -> None:
    with building(tmp_path / "hf", overwrite=False) as folder:
        (folder / MARK).write_text("1")
    with pytest.raises(RunError, match="--overwrite"), building(tmp_path / "hf", overwrite=False):
        pass
    with building(tmp_path / "hf", overwrite=True) as folder:
        (folder / MARK).write_text("2")
    assert (tmp_path / "hf" / MARK).read_text() == "2"


def test_a_folder_that_is_no_export_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    with pytest.raises(RunError, match="no earlier export"), building(tmp_path / "thesis", overwrite=True):
        pass
    assert (tmp_path / "thesis").is_dir()
