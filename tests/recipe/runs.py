"""Small real runs for the tests: a recipe over this Python's own sources, and the training program as it is launched."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from recipe.load import load_recipe
from recipe.prepare import create_run
from recipe.resolve import resolve
from recipe.rundir import RunDir, read_jsonl
from tests.parity import config_of

SMALL = [
    "model.num_layers=2", "model.hidden_size=32", "model.ffn_hidden_size=64", "model.num_heads=4", "model.num_kv_heads=2",
    "model.seq_length_tokens=32", "model.vocab_size=400", "mup.dim_model_base=16", "tokenizer.train_bytes=200KB",
    "tokenizer.train_on={text: 1}", "sources={text: {kind: text, path: FILES, heldout_frac: 0.1}}",
    "stages=[{name: stable, tokens: 3072, mixture: {text: 100}, batch: {from_tokens: 128, to_tokens: 256, over_tokens: 512}}, "
    "{name: decay, tokens: 1024, mixture: {text: 100}, lr: {shape: linear}}]",
    "batch.global_tokens=256", "batch.micro_seqs=2", "optim.warmup_tokens=512", "optim.clip=0.3",
    "checkpoint.every_tokens=1024", "evaluate.heldout_tokens=512", "logging.tensorboard=false",
]


@contextlib.contextmanager
def engine_alone(layout: dict[str, Any]) -> Iterator[Any]:
    """The engine of a layout of the parity grid, in this process."""
    from megatron.core import parallel_state as ps

    import megatron_patches
    from megatron_patches.cpu.world import single_process_world
    from recipe.engine import Engine
    from recipe.lower import deepspeed_config, transformer_arguments
    from recipe.model import initialise_parallel

    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it
    single_process_world()
    ps.destroy_model_parallel()
    resolved = resolve(config_of(layout), world_size=1)
    with megatron_patches.apply(cpu=True):
        initialise_parallel(resolved)
        built = Engine(resolved, transformer=transformer_arguments(resolved), deepspeed_config=deepspeed_config(resolved))
        yield built
        built.close()


def prepared(home: Path, name: str, *, processes: int, overrides: list[str] | None = None) -> RunDir:
    small = [line.replace("FILES", f"{home}/texts/*.txt") for line in SMALL]
    config = load_recipe("demo", [*small, *(overrides or [])])
    return create_run(config, home / "runs" / name, world_size=processes, data_dir=home / "data")


def start(
    run: RunDir, *, processes: int, attempt: int = 1, program: str = "recipe.train", faults: dict | None = None
) -> subprocess.Popen:
    run.attempt(attempt).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "0",
               "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", "-m", program, str(run.root)]
    env = os.environ | {"WINDTUNNEL_ATTEMPT": str(attempt), "OMP_NUM_THREADS": "1", "FAULTS": json.dumps(faults or {})}
    with (run.attempt(attempt) / "log").open("w") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def kill(process: subprocess.Popen) -> None:
    """SIGKILL for the launcher and every rank; ranks have process groups of their own."""
    ranks = psutil.Process(process.pid).children(recursive=True)
    for one in (process, *ranks):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(ranks)


def finish(run: RunDir, *, processes: int, attempt: int = 1) -> None:
    code = start(run, processes=processes, attempt=attempt).wait(timeout=400)
    assert code == 0, (run.attempt(attempt) / "log").read_text()[-3000:]


def trace(run: RunDir) -> list[tuple]:
    return [(r["step"], r["loss"], r["grad_norm"], r["lr"], r["tokens"]) for r in read_jsonl(run.metrics)]
