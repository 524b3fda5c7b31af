"""Checkpoints of a small engine in this process: what is damaged is set aside, a full disk takes nothing away, what is kept."""

import resource
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recipe.checkpoint.format import MANIFEST
from recipe.checkpoint.reader import CheckpointReader
from recipe.checkpoint.restore import check_identity, load_engine, newest_whole
from recipe.checkpoint.retention import remove_old, to_remove
from recipe.checkpoint.writer import CheckpointWriter
from recipe.errors import CheckpointError
from recipe.resolve import resolve
from recipe.rundir import RunDir
from tests.parity import config_of
from tests.recipe.runs import engine_alone


@pytest.fixture(scope="module")
def engine() -> Iterator:
    with engine_alone({}) as built:
        yield built


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    directory = RunDir(tmp_path / "run")
    directory.checkpoints.mkdir(parents=True)
    return directory


def save(engine, run: RunDir, *steps: int) -> CheckpointWriter:
    writer = CheckpointWriter(engine, asynchronous=False)
    for step in steps:
        writer.save(run.checkpoint("stable", 100 * step), {"step": step, "adam_step": step, "attempt": 1})
    return writer


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_serves(engine, run: RunDir) -> None:
    save(engine, run, 1, 2)
    newest = run.checkpoint("stable", 200)
    shard = newest / "rank_00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    folder, complaints = newest_whole(run)
    assert folder == run.checkpoint("stable", 100)
    assert complaints == [f"{shard}: contents changed since it was written"]
    assert (newest.parent / f".damaged-{newest.name}").is_dir()
    assert load_engine(engine, folder)["step"] == 1


def test_a_damaged_manifest_is_damage_another_version_is_not(engine, run: RunDir) -> None:
    save(engine, run, 1, 2, 3, 4)
    for step, text in ((4, None), (3, b'{"format": 1, "fi'), (2, b'{"format": 1}')):
        manifest = run.checkpoint("stable", 100 * step) / MANIFEST
        manifest.unlink() if text is None else manifest.write_bytes(text)
    folder, complaints = newest_whole(run)
    assert folder == run.checkpoint("stable", 100)
    told = ("is missing", "not JSON", "no manifest")
    assert all(why in complaint for why, complaint in zip(told, complaints, strict=True))
    (folder / MANIFEST).write_text('{"format": 2, "files": {}}')
    with pytest.raises(CheckpointError, match="format 2; this version reads 1"):
        newest_whole(run)
    assert folder.is_dir()


def test_what_is_written_again_replaces_what_was_there(engine, run: RunDir) -> None:
    save(engine, run, 1)
    save(engine, run, 1)
    assert newest_whole(run) == (run.checkpoint("stable", 100), [])
    assert list(run.checkpoints.iterdir()) == [run.checkpoint("stable", 100)]


@pytest.mark.parametrize("harm", ["truncate", "remove"])
def test_other_damage_is_found_too(engine, run: RunDir, harm: str) -> None:
    save(engine, run, 1)
    shard = run.checkpoint("stable", 100) / "rank_00000.safetensors"
    shard.unlink() if harm == "remove" else shard.write_bytes(shard.read_bytes()[:-9])
    folder, complaints = newest_whole(run)
    assert folder is None
    assert ("missing" if harm == "remove" else " were written") in complaints[0]


def test_another_recipe_is_refused_key_by_key() -> None:
    config = config_of({})
    first, last = config.stages
    changed = config.model_copy(update={"stages": (first, last.model_copy(update={"tokens": 2 * last.tokens}))})
    other = resolve(changed, world_size=1).model_copy(update={"tokenizer_sha256": "f00d"})
    with pytest.raises(CheckpointError) as caught:
        check_identity({"identity": resolve(config, world_size=1).identity()}, other, folder=Path("old"))
    assert str(caught.value).splitlines()[1:-1] == [
        f"  stages[1].tokens: {last.tokens} → {2 * last.tokens}", "  tokenizer: none → f00d",
    ]  # fmt: skip


def test_loading_brings_back_every_bit(engine, run: RunDir) -> None:
    save(engine, run, 1)
    before = CheckpointReader(run.checkpoint("stable", 100)).tensor("embedding.word_embeddings.weight")
    for parameter in engine.chunks[0].parameters():
        parameter.data.normal_()
    load_engine(engine, run.checkpoint("stable", 100))
    assert torch.equal(engine.chunks[0].embedding.word_embeddings.weight.data[: len(before)], before)


def test_a_disk_without_room_is_an_error_and_nothing_is_removed(engine, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    save(engine, run, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    with pytest.raises(CheckpointError, match=r"a checkpoint takes .* free; the checkpoints there stay as they are"):
        save(engine, run, 2)
    assert list(run.checkpoints.iterdir()) == [run.checkpoint("stable", 100)]
    assert newest_whole(run) == (run.checkpoint("stable", 100), [])


def test_a_write_that_fails_leaves_the_old_one_whole(engine, run: RunDir) -> None:
    save(engine, run, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # the kernel refuses longer files, as it does on a full disk
    try:
        with pytest.raises(CheckpointError, match="could not be written"):
            save(engine, run, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (run.checkpoint("stable", 200) / MANIFEST).exists()
    assert newest_whole(run) == (run.checkpoint("stable", 100), [])


def test_training_goes_on_while_a_checkpoint_is_written(engine, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), CheckpointWriter._write_whole
    monkeypatch.setattr(CheckpointWriter, "_write_whole", lambda *a: (gate.wait(30), real(*a)))
    writer = CheckpointWriter(engine, asynchronous=True)
    writer.save(run.checkpoint("stable", 100), {"step": 1, "adam_step": 1, "attempt": 1})
    before = engine.chunks[0].decoder.final_layernorm.weight.detach().clone()
    for parameter in engine.chunks[0].parameters():
        parameter.data.add_(1)  # what an update does meanwhile isn't in it
    assert newest_whole(run) == (None, [])
    gate.set()
    writer.wait()
    assert torch.equal(CheckpointReader(run.checkpoint("stable", 100)).tensor("decoder.final_layernorm.weight"), before)
    load_engine(engine, run.checkpoint("stable", 100))


def test_what_is_kept(run: RunDir) -> None:
    config = config_of({})
    kept = config.model_copy(update={"checkpoint": config.checkpoint.model_copy(
        update={"keep_last": 2, "every_tokens": 256, "keep_every_tokens": 1024})})  # fmt: skip
    resolved = resolve(kept, world_size=1)
    end = resolved.stages[0].end_tokens
    tokens = sorted({*range(256, resolved.total_tokens, 256), end, resolved.total_tokens})
    for at in tokens:
        run.checkpoint("stable", at).mkdir()
        (run.checkpoint("stable", at) / MANIFEST).write_text("{}")
    remove_old(run, resolved)
    left = sorted(int(path.name.partition("-")[2]) for path in run.checkpoints.glob("stable-*"))
    assert left == sorted({*tokens[-2:], end, resolved.total_tokens, *(at for at in tokens if at % 1024 == 0)})
    assert run.latest.read_text().strip() == run.checkpoint("stable", tokens[-1]).name
    assert to_remove([run.checkpoint("stable", at) for at in left], resolved) == []
