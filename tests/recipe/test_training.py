"""The training program for real: layouts agree, a SIGKILL changes nothing, another layout goes on, strangers are refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipe.load import load_recipe
from recipe.prepare import create_run, load_resolved, relayout
from recipe.resolve import resolve
from recipe.rundir import RunDir, read_jsonl

SMALL = [
    "model.num_layers=2", "model.hidden_size=32", "model.ffn_hidden_size=64", "model.num_heads=4", "model.num_kv_heads=2",
    "model.seq_length_tokens=32", "model.vocab_size=400", "mup.dim_model_base=16", "tokenizer.train_bytes=200KB",
    "tokenizer.train_on={text: 1}", "sources={text: {kind: text, path: FILES, heldout_frac: 0.1}}",
    "stages=[{name: stable, tokens: 3072, mixture: {text: 100}, batch: {from_tokens: 128, to_tokens: 256, over_tokens: 512}}, "
    "{name: decay, tokens: 1024, mixture: {text: 100}, lr: {shape: linear}}]",
    "batch.global_tokens=256", "batch.micro_seqs=2", "optim.warmup_tokens=512", "optim.clip=0.3",
    "checkpoint.every_tokens=1024", "evaluate.heldout_tokens=512", "logging.tensorboard=false",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training")
    texts = root / "texts"
    texts.mkdir()
    library = Path(os.__file__).parent
    for path in sorted(library.glob("*.py"))[:40]:
        shutil.copy(path, texts / f"{path.stem}.txt")
    return root


def prepared(home: Path, name: str, *, processes: int, overrides: list[str] | None = None) -> RunDir:
    small = [line.replace("FILES", f"{home}/texts/*.txt") for line in SMALL]
    config = load_recipe("demo", [*small, *(overrides or [])])
    return create_run(config, home / "runs" / name, world_size=processes, data_dir=home / "data")


def start(run: RunDir, *, processes: int, attempt: int = 1) -> subprocess.Popen:
    run.attempt(attempt).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "0",
               "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", "-m", "recipe.train", str(run.root)]
    env = os.environ | {"WINDTUNNEL_ATTEMPT": str(attempt), "OMP_NUM_THREADS": "1"}
    with (run.attempt(attempt) / "log").open("w") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def finish(run: RunDir, *, processes: int, attempt: int = 1) -> None:
    code = start(run, processes=processes, attempt=attempt).wait(timeout=400)
    assert code == 0, (run.attempt(attempt) / "log").read_text()[-3000:]


def trace(run: RunDir) -> list[tuple]:
    return [(r["step"], r["loss"], r["grad_norm"], r["lr"], r["tokens"]) for r in read_jsonl(run.metrics)]


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> RunDir:
    run = prepared(home, "undisturbed", processes=2)
    finish(run, processes=2)
    return run


def test_a_run_goes_through_its_stages_and_learns(undisturbed: RunDir) -> None:
    resolved = load_resolved(undisturbed)
    steps = trace(undisturbed)
    assert [step for step, *_ in steps] == list(range(resolved.num_steps))
    assert steps[-1][-1] == resolved.total_tokens
    assert steps[-1][1] < steps[0][1] - 0.3
    assert all(undisturbed.heldout(stage.name, stage.end_tokens).is_file() for stage in resolved.stages)


def test_sigkill_and_resume_change_nothing(home: Path, undisturbed: RunDir) -> None:
    run = prepared(home, "killed", processes=2)
    process = start(run, processes=2)
    deadline = time.monotonic() + 300
    while len(read_jsonl(run.metrics)) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(["pkill", "-KILL", "-f", str(run.root)], check=False)  # ranks have process groups of their own
    assert len(trace(run)) < load_resolved(run).num_steps
    finish(run, processes=2, attempt=2)
    assert trace(run) == trace(undisturbed)


def test_another_layout_agrees_and_goes_on(home: Path, undisturbed: RunDir) -> None:
    other = prepared(home, "tensor", processes=2, overrides=["parallel.tp=2", "parallel.sp=true"])
    finish(other, processes=2)
    for ours, theirs in zip(trace(other), trace(undisturbed), strict=True):
        assert ours[1] == pytest.approx(theirs[1], rel=1e-5)
        assert ours[2] == pytest.approx(theirs[2], rel=1e-4)
    resolved = load_resolved(other)
    for folder in other.checkpoints.glob("decay-*"):
        shutil.rmtree(folder)
    alone = resolved.config.model_copy(update={"parallel": load_resolved(undisturbed).config.parallel})
    moved = resolve(alone, world_size=1).model_copy(
        update={"data": resolved.data, "tokenizer_dir": resolved.tokenizer_dir, "tokenizer_sha256": resolved.tokenizer_sha256}
    )
    from recipe.prepare import write_run

    write_run(other, moved)
    finish(other, processes=1, attempt=2)
    for ours, theirs in zip(trace(other), trace(undisturbed), strict=True):
        assert ours[1] == pytest.approx(theirs[1], rel=1e-5)


def test_a_checkpoint_of_another_recipe_is_refused(home: Path, undisturbed: RunDir) -> None:
    stranger = prepared(home, "stranger", processes=1, overrides=["mup.scale_emb=10"])
    for folder in undisturbed.checkpoints.glob("stable-*"):
        shutil.copytree(folder, stranger.checkpoints / folder.name)
    code = start(stranger, processes=1).wait(timeout=200)
    log = (stranger.attempt(1) / "log").read_text()
    assert code != 0
    assert "the checkpoint is of another recipe" in log
    assert '"scale_emb": 12' in log
    assert '"scale_emb": 10' in log


def test_fewer_processes_keep_the_recipe(home: Path, undisturbed: RunDir) -> None:
    copy = RunDir(home / "runs" / "relaid")
    shutil.copytree(undisturbed.root, copy.root)
    after = relayout(copy, world_size=1)
    assert (after.layout.dp, after.identity()) == (1, load_resolved(undisturbed).identity())
