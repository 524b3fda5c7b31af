"""The sample order: a permutation without repeats, shares within one sample, and a ledger that says everything."""

import argparse
import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from data_prep.binarize import binarize
from data_prep.sources import SourceSpec
from data_prep.tokenizer import load_tokenizer, train_unigram
from recipe.errors import ConfigError
from recipe.stream import Ledger, Mixture, Permutation, SampleStream, open_streams, rank_share

SEQ = 16
WEIGHTS = {"a": 70.0, "b": 30.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("stream")
    texts = {"a": inspect.getsource(argparse).split("\n\n"), "b": inspect.getsource(inspect).split("\n\n")}
    train_unigram(iter(texts["a"] + texts["b"]), out_dir=root / "tok", vocab_size=400)
    tokenizer = load_tokenizer(root / "tok")
    for name, lines in texts.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines if line))
        spec = SourceSpec(name=name, paths=(str(root / f"{name}.jsonl"),), heldout_frac=0.0)
        binarize(spec, tokenizer=tokenizer, data_dir=root / "data", workers=1)
    return {name: str(next((root / "data" / name).glob("*/train"))) for name in "ab"}


@pytest.mark.parametrize("size", [1, 2, 3, 17, 256, 1000, 4097])
def test_the_permutation_visits_each_window_once(size: int) -> None:
    order = Permutation(size, key="7/web/0")
    assert sorted(order(i) for i in range(size)) == list(range(size))
    if size > 100:
        assert [order(i) for i in range(20)] != list(range(20))
        assert [order(i) for i in range(20)] != [Permutation(size, key="7/web/1")(i) for i in range(20)]


def test_the_permutation_of_a_trillion_windows_is_at_hand_at_once() -> None:
    order = Permutation(10**12, key="1/web/0")
    assert 0 <= order(10**12 - 1) < 10**12


def test_a_mixture_is_never_off_by_more_than_one_sample() -> None:
    mixture = Mixture({"a": 41.3, "b": 26.2, "c": 32.5})
    drawn: list[str] = []
    for _ in range(50):
        drawn += mixture.draw(7)
        for name, weight in zip("abc", (0.413, 0.262, 0.325)):
            assert abs(drawn.count(name) - weight * len(drawn)) < 1


def _draw(
    folders: dict[str, str], batches: list[int], ledger: Ledger | None = None, stage: str = "stable"
) -> tuple[list, Ledger]:
    ledger = ledger or Ledger()
    stream = SampleStream(open_streams(folders, block_tokens=SEQ, seed=3), ledger=ledger)
    stream.enter(stage, WEIGHTS)
    return [window for size in batches for window in stream.draw(size)], ledger


def test_the_order_does_not_depend_on_batch_size_or_interruption(folders: dict[str, str]) -> None:
    whole, _ = _draw(folders, [60])
    ramped, _ = _draw(folders, [4] * 5 + [8] * 5)
    first, ledger = _draw(folders, [24])
    second, _ = _draw(folders, [36], Ledger(ledger.state()))
    assert whole == ramped == first + second


def test_a_source_goes_on_where_the_earlier_stage_stopped(folders: dict[str, str]) -> None:
    first, ledger = _draw(folders, [40])
    second, _ = _draw(folders, [40], ledger, stage="decay")
    for name in WEIGHTS:
        draws = [window.draw for window in first + second if window.source == name]
        assert draws == list(range(len(draws)))
    firsts = {(w.source, w.epoch, w.index) for w in first}
    assert not firsts & {(w.source, w.epoch, w.index) for w in second if w.epoch == 0}


def test_every_layout_sees_the_same_global_batch(folders: dict[str, str]) -> None:
    windows, _ = _draw(folders, [16])
    for dp, micro in ((1, 2), (2, 2), (4, 1), (8, 2)):
        seen = [w for rank in range(dp) for share in rank_share(windows, dp_rank=rank, dp=dp, micro_seqs=micro) for w in share]
        assert sorted(seen, key=str) == sorted(windows, key=str)


def test_windows_are_the_tokens_of_the_corpus_across_shards(folders: dict[str, str]) -> None:
    stream = open_streams(folders, block_tokens=SEQ, seed=3)["a"]
    rows = {}
    for draw in range(stream.num_blocks):
        window = stream.window(draw)
        rows[window.index] = stream.tokens(window)
    joined = np.concatenate([rows[i][:-1] for i in range(stream.num_blocks)])
    assert np.array_equal(joined, stream.store.tokens(0, stream.num_blocks * SEQ))
    assert all(rows[i][-1] == rows[i + 1][0] for i in range(stream.num_blocks - 1))


def test_a_source_shorter_than_a_sequence_is_refused(folders: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="fewer than the longest sequence"):
        open_streams(folders, block_tokens=10**6, seed=1)


def test_manifests_are_whole(folders: dict[str, str]) -> None:
    assert all((Path(folder) / "manifest.json").is_file() for folder in folders.values())


def test_the_loss_mask_of_responses_reaches_training(tmp_path: Path, folders: dict[str, str]) -> None:
    tokenizer = load_tokenizer(next(Path(folders["a"]).parents[3].glob("tok")))
    rows = [{"prompt": f"What is {i} plus one?", "response": f"It is {i + 1}."} for i in range(60)]
    (tmp_path / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = SourceSpec(name="sft", kind="sft", paths=(str(tmp_path / "sft.jsonl"),), heldout_frac=0.0, loss_on="responses")
    binarize(spec, tokenizer=tokenizer, data_dir=tmp_path / "data", workers=1)
    folder = str(next((tmp_path / "data" / "sft").glob("*/train")))
    stream = open_streams({"sft": folder}, block_tokens=SEQ, seed=1)["sft"]
    assert stream.store.manifest.has_loss_mask
    pairs = [(stream.tokens(w)[1:], stream.loss_mask(w)) for w in map(stream.window, range(stream.num_blocks))]
    kept = tokenizer.decode([int(t) for tokens, mask in pairs for t in tokens[mask == 1]])
    left_out = tokenizer.decode([int(t) for tokens, mask in pairs for t in tokens[mask == 0]])
    assert "It is" in kept
    assert "What is" not in kept
    assert "What is" in left_out
