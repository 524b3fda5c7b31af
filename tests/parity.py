"""Any layout against one process: same losses, same gradient norms, same final weights, and checkpoints cross over.

    python -m tests.parity [LAYOUTS.yaml] [--precision bf16]

One pool of processes goes through all layouts, since starting eight of them costs more than training. Each layout trains 20
steps with a batch ramp, a stage change and active clipping; then it loads the checkpoint of step 10 that the layout before it
wrote, and repeats the rest. A line for each layout as it finishes; exit code 1 if one is off.
"""

import argparse
import gc
import importlib
import os
import queue
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

GRID = Path(__file__).parent / "parity_layouts.yaml"
SEQ, VOCAB, HALF = 32, 300, 10
LONGEST_S = 600
BOUNDS = {"fp32": (1e-5, 1e-4), "bf16": (2e-2, 1e-1)}  # relative: loss and norm; absolute: weights


def config_of(layout: dict[str, Any]) -> Any:
    """The smallest recipe that every axis fits: 8 layers, 8 heads, 4 KV heads."""
    from recipe.config import RunConfig

    keys = ("tp", "pp", "vp", "cp", "sp", "zero", "recompute", "offload_optimizer", "layers_per_stage")
    axes = {key: layout[key] for key in keys if key in layout}
    batch = 8 * SEQ
    return RunConfig.model_validate({
        "name": "parity",
        "model": {"num_layers": 8, "hidden_size": 64, "ffn_hidden_size": 96, "num_heads": 8, "num_kv_heads": 4,
                  "seq_length_tokens": SEQ, "vocab_size": layout.get("vocab_size", VOCAB), "tied": layout.get("tied", True)},
        "mup": {"parametrization": layout.get("parametrization", "minicpm"), "dim_model_base": 32, "scale_emb": 12,
                "scale_depth": 1.4, "init_std": 0.1, "num_layers_base": 4},
        "sources": {"a": {}, "b": {}},
        "stages": [
            {"name": "stable", "tokens": 12 * batch, "mixture": {"a": 100},
             "batch": {"from_tokens": batch // 2, "to_tokens": batch, "over_tokens": 2 * batch}},
            {"name": "decay", "tokens": 6 * batch, "mixture": {"b": 100}, "lr": {"shape": "linear", "floor_frac": 0.1}},
        ],
        "optim": {"peak_lr": 0.01, "warmup_tokens": 4 * batch, "clip": 0.3},
        "batch": {"global_tokens": batch, "micro_seqs": 1},
        "parallel": axes,
        "precision": layout.get("precision", "fp32"),
        "backends": {name: layout[name] for name in ("attention", "adam", "cross_entropy") if name in layout},
    })


def world_of(layout: dict[str, Any]) -> int:
    return int(layout.get("world", layout.get("tp", 1) * layout.get("pp", 1) * layout.get("cp", 1) * layout.get("dp", 1)))


def train(layout: dict[str, Any], *, folder: Path, start_from: Path | None) -> dict[str, Any]:
    """One rank's run of a layout; rank 0's result is read."""
    from megatron.core import parallel_state as ps

    from recipe.batch import micro_batch
    from recipe.checkpoint.restore import load_engine
    from recipe.checkpoint.writer import CheckpointWriter
    from recipe.engine import Engine
    from recipe.lower import deepspeed_config, schedule_of, transformer_arguments
    from recipe.model import initialise_parallel
    from recipe.resolve import resolve

    config = config_of(layout)
    resolved = resolve(config, world_size=world_of(layout))
    initialise_parallel(resolved)
    engine = Engine(resolved, transformer=transformer_arguments(resolved), deepspeed_config=deepspeed_config(resolved))
    writer, schedule = CheckpointWriter(engine, asynchronous=True), schedule_of(resolved)
    first = 0 if start_from is None else load_engine(engine, start_from)["step"]
    dp, rank, micro = resolved.layout.dp, ps.get_data_parallel_rank(), config.batch.micro_seqs
    trace = []
    for step in range(first, resolved.num_steps):
        size = resolved.batch_seqs_at(step)
        tokens = np.random.default_rng(step).integers(0, config.model.vocab_size, (size, SEQ + 1))
        mask = np.ones((micro, SEQ), np.float32)
        batches = [micro_batch(tokens[a : a + micro], mask) for a in range(rank * micro, size, dp * micro)]
        engine.set_lr(config.optim.peak_lr * schedule.lr_mult_at(resolved.tokens_before(step + 1)))
        result = engine.train_step(batches, num_targets=size * SEQ)
        trace.append((step, result.loss, result.grad_norm))
        if step + 1 in (HALF, resolved.num_steps) and start_from is None:
            state = {"step": step + 1, "adam_step": step + 1, "attempt": 1}
            writer.save(folder / f"step-{step + 1}", state)
    writer.wait()
    engine.close()
    return {"trace": trace, "steps": resolved.num_steps}


def _worker(rank: int, layouts: list[dict[str, Any]], first: int, folder: str, results: Any, lane: Any) -> None:
    """A process of the pool: takes part in each layout that needs its rank."""
    os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    import warnings

    warnings.filterwarnings("ignore")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    import megatron_patches

    megatron_patches.apply(cpu=True)
    root = Path(folder)
    for number, layout in list(enumerate(layouts))[first:]:
        world = world_of(layout)
        if rank < world:
            os.environ["WORLD_SIZE"] = str(world)
            store = dist.FileStore(str(root / f"store-{number}"), world)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
            try:
                whole = train(layout, folder=root / f"layout-{number}", start_from=None)
                moved = _moved(layout, root, number)
                if rank == 0:
                    results.put((number, whole | {"moved": moved}))
            except Exception:
                results.put((number, {"error": f"rank {rank}: {traceback.format_exc()}"}))
                return
            end_groups()
        lane.wait()


def end_groups() -> None:
    """All process groups, so that others can follow in this process."""
    import deepspeed.comm.comm
    import deepspeed.utils.groups
    import torch.distributed as dist
    from deepspeed.runtime.zero.parameter_offload import DeepSpeedZeRoOffload
    from deepspeed.runtime.zero.partition_parameters import Init
    from megatron.core import parallel_state as ps

    ps.destroy_model_parallel()
    dist.destroy_process_group()
    Init.param_id = 0  # ZeRO-3 numbers parameters and modules from here on, and compares the numbers with those of other ranks
    DeepSpeedZeRoOffload._register_deepspeed_module.__defaults__[0][:] = [0]
    deepspeed.comm.comm.cdb = None  # DeepSpeed remembers its first process group, and its sub-groups
    importlib.reload(deepspeed.utils.groups)
    gc.collect()  # the engines' cycles hold groups, and gloo's threads of groups that are gone take the processor


def _moved(layout: dict[str, Any], root: Path, number: int) -> list[Any]:
    """The second half again, from the checkpoint that another layout wrote."""
    if number == layout["reference"]:
        return []
    checkpoint = root / f"layout-{layout['before']}" / f"step-{HALF}"
    return train(layout, folder=root / f"moved-{number}", start_from=checkpoint)["trace"]


def with_references(layouts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One process in front of each kind of model (what changes the numbers: precision, tied, vocabulary, parametrisation).

    Each layout is told the numbers of its reference and of the layout of its kind before it.
    """
    ordered: list[dict[str, Any]] = []
    references: dict[tuple, int] = {}
    newest: dict[tuple, int] = {}
    keys = ("precision", "tied", "vocab_size", "parametrization")
    for layout in layouts:
        kind = tuple(layout.get(key) for key in keys)
        if kind not in references:
            references[kind] = newest[kind] = len(ordered)
            ordered.append({key: layout[key] for key in keys if key in layout} | {"reference": len(ordered), "zero": 1})
        ordered.append(layout | {"reference": references[kind], "before": newest[kind]})
        newest[kind] = len(ordered) - 1
    return ordered


def run(layouts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every layout's line, references included."""
    return list(lines_of(layouts))


def lines_of(layouts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each layout's largest differences from its reference as it finishes: loss, norm, weights, moved; or its `error`."""
    layouts = with_references(layouts)
    folder = Path(tempfile.mkdtemp(prefix="parity-"))
    found: dict[int, dict[str, Any]] = {}
    try:
        while len(found) < len(layouts):  # a failure takes the pool with it: the layouts behind it get another
            for number, result in _pool(layouts, first=len(found), folder=folder):
                found[number] = result
                yield _compare(layouts, found, number, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pool(layouts: list[dict[str, Any]], *, first: int, folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Results from `first` on, until the last or the first failure."""
    import torch.multiprocessing as mp

    size = max(world_of(layout) for layout in layouts[first:])
    context = mp.get_context("spawn")
    results, lane = context.Queue(), context.Barrier(size)
    pool = [
        context.Process(target=_worker, args=(rank, layouts, first, str(folder), results, lane), daemon=True)
        for rank in range(size)
    ]
    try:
        for process in pool:
            process.start()
        for number in range(first, len(layouts)):
            started = time.monotonic()
            try:
                _, result = results.get(timeout=LONGEST_S)
            except queue.Empty:
                result = {"error": f"no answer within {LONGEST_S} s"}
            yield number, result | {"seconds": time.monotonic() - started}
            if "error" in result:
                return
    finally:
        for process in pool:
            process.terminate()
            process.join()


def _compare(layouts: list[dict[str, Any]], found: dict[int, Any], number: int, folder: Path) -> dict[str, Any]:
    layout, mine = layouts[number], found[number]
    line: dict[str, Any] = {"layout": {k: v for k, v in layout.items() if k not in ("reference", "before")}}
    theirs = found[layout["reference"]]
    if error := mine.get("error") or theirs.get("error"):
        return line | {"error": error, "ok": False}
    line["seconds"] = mine["seconds"]
    line["loss"], line["norm"] = _largest(mine["trace"], theirs["trace"])
    line["moved"] = max(_largest(mine["moved"], theirs["trace"][HALF:])) if mine["moved"] else 0.0
    last = f"step-{mine['steps']}"
    line["weights"] = _weights_apart(folder / f"layout-{number}" / last, folder / f"layout-{layout['reference']}" / last)
    relative, absolute = BOUNDS[layout.get("precision", "fp32")]
    line["ok"] = max(line["loss"], line["norm"], line["moved"]) <= relative and line["weights"] <= absolute
    return line


def _largest(mine: list[Any], theirs: list[Any]) -> tuple[float, float]:
    assert [step for step, *_ in mine] == [step for step, *_ in theirs]
    apart = np.array([[abs(a - b) / abs(b) for a, b in zip(one[1:], two[1:])] for one, two in zip(mine, theirs)])
    return float(apart[:, 0].max()), float(apart[:, 1].max())


def _weights_apart(mine: Path, theirs: Path) -> float:
    """Largest difference, but for one weight in a million of a tensor: where a gradient is all rounding, Adam follows that."""
    from recipe.checkpoint.reader import CheckpointReader

    ours, other = CheckpointReader(mine, verify=True), CheckpointReader(theirs)
    assert set(ours.names()) == set(other.names())
    apart = [(ours.tensor(name) - other.tensor(name)).abs().flatten() for name in ours.names()]
    return max(float(one.topk(1 + len(one) // 1_000_000).values[-1]) for one in apart)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares layouts with one process.")
    parser.add_argument("layouts", nargs="?", type=Path, default=GRID)
    parser.add_argument("--precision", choices=sorted(BOUNDS), help="for every layout, whatever the file says")
    options = parser.parse_args()
    layouts = yaml.safe_load(options.layouts.read_text())
    if options.precision:
        layouts = [layout | {"precision": options.precision} for layout in layouts]
    verdicts = []
    for line in lines_of(layouts):
        verdicts.append(line["ok"])
        print(as_text(line), flush=True)
    print(f"{verdicts.count(True)} passed, {verdicts.count(False)} failed")
    return 0 if all(verdicts) else 1


def as_text(line: dict[str, Any]) -> str:
    name = " ".join(f"{key}={value}" for key, value in line["layout"].items())
    if "error" in line:
        return f"FAILED  {name}\n{line['error']}"
    figures = " ".join(f"{key} {line[key]:.1e}" for key in ("loss", "norm", "weights", "moved"))
    return f"{'ok     ' if line['ok'] else 'APART  '} {name}: {figures} ({line['seconds']:.0f} s)"


if __name__ == "__main__":
    sys.exit(main())
