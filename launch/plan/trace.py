"""One rank of the real job on fake tensors: the training program's own engine builds, steps and is measured, without a GPU,
without the other ranks, and without the memory.

    python -m launch.plan.trace '{"recipe": "nano", "world_size": 8, "rank": 0, "overrides": ["parallel.tp=2"]}'

`recipe.engine.Engine` is what training runs; here its process group is torch's fake one (collectives return at once) and its
tensors have sizes but no bytes. Values that a program reads (a norm, a loss) read as zero. On CPU the allocations are the
training program's own on a CPU; a GPU differs in kernels' workspaces, which the closed form lists as not modelled.
"""

import gc
import importlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from data_prep.atomic import write_text


@contextmanager
def fake_world(world_size: int, rank: int):
    """This process as one rank of a world of which only it exists."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}  # DeepSpeed insists on them
    dist.init_process_group(backend="fake", rank=rank, world_size=world_size, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _real_world(world_size: int, rank: int, meeting: str):
    """This process as one rank of a world whose ranks all run here; `meeting`: a file that they find each other by."""
    import torch.distributed as dist

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    dist.init_process_group(backend="gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _fake_tensors():
    """Fake tensors for whatever is made inside. Three things are left out: moving a module (torch swaps parameters there, which
    fake ones refuse, and all of them are made on the device and in the precision that they train in), DeepSpeed's checks
    that ranks agree, and Python objects from the other ranks, which don't exist."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), _scalars_read_as_zero(), ExitStack() as stack:
        stack.enter_context(patch.object(torch.nn.Module, "_apply", lambda self, *_, **__: self))
        for module in ("partition_parameters", "parameter_offload", "stage3", "partitioned_param_coordinator"):
            loaded = importlib.import_module(f"deepspeed.runtime.zero.{module}")
            if hasattr(loaded, "assert_ints_same_as_other_ranks"):
                stack.enter_context(patch.object(loaded, "assert_ints_same_as_other_ranks", lambda *_: None))
        stack.enter_context(patch("torch.distributed.all_gather_object", _everyone_says_the_same))
        yield


def _everyone_says_the_same(object_list: list[Any], obj: Any, group: Any = None) -> None:
    object_list[:] = [obj] * len(object_list)


def _scalars_read_as_zero():
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class ScalarsReadAsZero(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._local_scalar_dense.default and getattr(args[0], "constant", None) is None:
                dtype = args[0].dtype
                return False if dtype == torch.bool else 0.0 if dtype.is_floating_point else 0
            return func(*args, **(kwargs or {}))

    return ScalarsReadAsZero()


def resolved_layout(recipe: str, overrides: Sequence[str], world_size: int) -> Any:
    """A recipe on so many processes, every number final."""
    from recipe.load import load_recipe
    from recipe.resolve import resolve

    return resolve(load_recipe(recipe, list(overrides)), world_size=world_size)


def trace(
    recipe: str, *, world_size: int, rank: int = 0, overrides: Sequence[str] = (), meeting: str = ""
) -> dict[str, Any]:  # fmt: skip
    """Bytes by term at the peak of a step of one rank.

    Args:
        meeting: Path of a new file: then tensors are real, and every rank of the world must call this with it.

    Returns:
        {"peak": {term: bytes} in forward and backward, "forward_backward": their sum, "allocated": most bytes of the whole
        step, "at_highest": {term: bytes} then, "num_params": …}
    """
    resolved = resolved_layout(recipe, overrides, world_size)
    from megatron.core import parallel_state

    with _real_world(world_size, rank, meeting) if meeting else fake_world(world_size, rank):
        try:
            return _trace_here(resolved, real=bool(meeting))
        finally:
            parallel_state.destroy_model_parallel()


def trace_deep(recipe: str, *, world_size: int, rank: int = 0, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """`trace` of a model of any depth, from two and three layers a chunk: every term is linear in the layers.

    More microbatches than ever are in flight (and a second one, which finds gradients there) change no peak: they are left out.
    """
    config = resolved_layout(recipe, overrides, world_size).config
    parallel, layers = config.parallel, config.model.num_layers
    chunks = parallel.pp * parallel.vp
    unit = config.batch.micro_seqs * config.block_tokens * (world_size // (parallel.tp * parallel.pp * parallel.cp))
    count = min(config.batch.global_tokens // unit, max(2, 2 * parallel.pp))
    few = [*overrides, f"batch.global_tokens={count * unit}"]
    counts = (2 * chunks, 3 * chunks)
    if layers <= counts[1] or parallel.layers_per_stage:
        return trace(recipe, world_size=world_size, rank=rank, overrides=few)
    below, above = (
        trace(recipe, world_size=world_size, rank=rank, overrides=[*few, f"model.num_layers={small}"]) for small in counts
    )
    return _extended(below, above, reach=(layers - counts[0]) / (counts[1] - counts[0])) | {"traced_layers": counts}


def _extended(below: Any, above: Any, *, reach: float) -> Any:
    """Each number at `reach` times the way from below to above."""
    if isinstance(below, dict):
        return {key: _extended(below.get(key, 0), above[key], reach=reach) for key in above}
    return round(below + reach * (above - below))


def _trace_here(resolved: Any, *, real: bool) -> dict[str, Any]:
    import torch

    import megatron_patches
    from launch.plan.tracker import StorageTracker
    from recipe.engine import Engine
    from recipe.lower import deepspeed_config, transformer_arguments
    from recipe.model import initialise_parallel

    tracker = StorageTracker()
    with megatron_patches.apply(cpu=True), nullcontext() if real else _fake_tensors(), tracker:
        initialise_parallel(resolved)
        with tracker.kind("weights"):
            engine = Engine(resolved, transformer=transformer_arguments(resolved), deepspeed_config=deepspeed_config(resolved))
        _tag_states(tracker, engine)
        for chunk in engine.chunks:
            tracker.watch(chunk)
        batches = _batches(resolved, torch)
        with tracker.kind("workspace"):
            _step(engine, batches, resolved)  # the first step allocates what later ones keep
            _tag_states(tracker, engine)
            tracker.restart()
            forward = _step(engine, batches, resolved, tracker=tracker)
        num_params = sum(parameter.numel() for chunk in engine.chunks for parameter in chunk.parameters())
        engine.close()
    gc.collect()
    return forward | {"num_params": num_params}


def _batches(resolved: Any, torch: Any) -> list[Any]:
    from recipe.batch import MicroBatch

    config, layout = resolved.config, resolved.layout
    rows, length = config.batch.micro_seqs, config.block_tokens  # the longest stage's: there memory must hold
    count = max(1, config.batch.global_tokens // length // (layout.dp * rows))
    part = length // layout.cp
    tokens = torch.zeros(rows, part, dtype=torch.long)
    positions = torch.arange(part).expand_as(tokens)
    batch = MicroBatch(tokens, tokens.clone(), positions, torch.ones(rows, part), full_seq_length=length)
    return [batch] * count


def _step(engine: Any, batches: list[Any], resolved: Any, *, tracker: Any = None) -> dict[str, Any]:
    """One training step; with a tracker, the peak of forward and backward and that of the whole step."""
    targets = len(batches) * batches[0].num_rows * resolved.config.block_tokens * resolved.layout.dp
    if tracker is None:
        engine.train_step(batches, num_targets=targets)
        return {}
    run = engine._run
    seen: dict[str, Any] = {}

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = run(*args, **kwargs)
        seen["peak"], seen["forward_backward"] = tracker.peak(), tracker.highest
        return result

    engine._run = watched
    engine.train_step(batches, num_targets=targets)
    return seen | {"allocated": tracker.highest, "at_highest": tracker.peak()}


def _tag_states(tracker: Any, engine: Any) -> None:
    from megatron_patches.zero.partition import flat_masters

    for chunk in engine.chunks:
        for parameter in chunk.parameters():
            tracker.tag(parameter.data, "weights")
            tracker.tag(getattr(parameter, "ds_tensor", None), "weights")
    tracker.tag(getattr(engine.engine.optimizer, "grad_partitions_flat_buffer", None), "gradient shards")  # ZeRO-3's
    for flat in flat_masters(engine.engine):
        tracker.tag(flat.data, "masters")
        for name, value in engine.engine.optimizer.optimizer.state.get(flat, {}).items():
            if name.startswith("exp_avg"):
                tracker.tag(value, "moments")


def main() -> None:
    request = json.loads(sys.argv[1])
    out = request.pop("out", "")
    text = json.dumps(trace(request.pop("recipe"), **request))
    write_text(Path(out), text) if out else print(text)


if __name__ == "__main__":
    main()
