"""What TensorBoard and Weights & Biases are told, read back by their own readers."""

from pathlib import Path

import pytest
import torch

from recipe.boards import TensorBoard, open_boards
from recipe.config import LoggingConfig
from recipe.errors import ConfigError
from recipe.metrics import Recorder
from recipe.rundir import RunDir
from tests.launch.tiny_run import tiny_config

RECORD = {
    "step": 3, "tokens": 64, "loss": 2.5, "grad_norm": 0.5, "lr": 0.01, "lr_by_role": {"hidden_qkv": 0.005}, "batch_seqs": 8,
    "tokens_per_s": 10.0, "tflops": 0.1, "mfu_frac": 0.2, "memory_bytes": 7, "phase_s": {"data": 0.1}, "drawn": {"docs": 8},
}


def record_all(run: RunDir, boards: list) -> None:
    run.root.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(run, attempt=1, first_step=0, boards=boards)
    recorder.step(RECORD)
    recorder.scalar("heldout/docs_bits_per_byte", 1.25, 4)
    recorder.histograms({"hidden_qkv": torch.randn(100)}, 3)
    recorder.close()


def test_tensorboard_is_complete_by_itself(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run = RunDir(tmp_path / "run")
    record_all(run, [TensorBoard(run, tiny_config(), first_step=0)])
    told = EventAccumulator(str(run.tensorboard)).Reload()
    scalars = {tag: told.Scalars(tag)[0].value for tag in told.Tags()["scalars"]}
    assert scalars["train/loss"] == 2.5
    assert scalars["mixture/docs"] == 8
    assert scalars["lr/hidden_qkv"] == pytest.approx(0.005)
    assert scalars["heldout/docs_bits_per_byte"] == 1.25
    assert scalars["hparams/last_loss"] == 2.5
    assert told.Histograms("weights/hidden_qkv")[0].histogram_value.num == 100
    content = told.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    kept = HParamsPluginData.FromString(content).session_start_info.hparams
    assert kept["optim.peak_lr"].number_value == 0.01
    assert kept["mup.parametrization"].string_value == "minicpm"


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = tiny_config(logging={"tensorboard": False, "wandb": "tests"})
    run = RunDir(tmp_path / "run")
    run.root.mkdir()
    boards = open_boards(run, config, first_step=0)
    assert len(boards) == 1
    boards[0].scalars([("train/loss", 2.5)], 0)
    boards[0].histogram("weights/x", torch.randn(10), 0)
    boards[0].close(2.5)
    assert list(run.root.glob("wandb/offline-run-*/run-*.wandb"))


def test_a_board_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    config = tiny_config(logging=LoggingConfig(tensorboard=False, wandb="tests"))
    with pytest.raises(ConfigError, match=r"logging.wandb: the package is not installed; pip install wandb"):
        open_boards(RunDir(tmp_path), config, first_step=0)
