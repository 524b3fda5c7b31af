"""The model as it is on a GPU, run forward on fake CUDA tensors: needs a CUDA build of torch, no GPU.

`python -m tests.recipe.cuda_forward '{"tp": 2, "sp": true}' …` prints a line for each tensor out of place.
{"planted": true} leaves a weight on the CPU, which must show.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.parity import SEQ, config_of, world_of


class Watch(TorchDispatchMode):
    """Notes every operation with an answer on the CPU, and every answer in a wider type than the model computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.strangers: set[str] = set()
        self.num_operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.num_operations += 1
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "cuda" and tensor.numel() > 1:
                self.strangers.add(f"{func}: {list(tensor.shape)} on {tensor.device}")
            elif isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                self.strangers.add(f"{func}: {list(tensor.shape)} is {tensor.dtype}")
        return out


def forward(layout: dict[str, Any]) -> tuple[set[str], int, torch.Tensor]:
    """Strangers, operations counted, and the loss."""
    from megatron.core import parallel_state as ps

    import megatron_patches
    from recipe.batch import MicroBatch, model_inputs
    from recipe.lower import transformer_arguments
    from recipe.model import build_chunks, initialise_parallel
    from recipe.resolve import resolve

    resolved = resolve(config_of(layout | {"precision": "bf16"}), world_size=world_of(layout))
    dist.init_process_group("fake", rank=0, world_size=world_of(layout), store=FakeStore())
    backends = {"attention": "sdpa", "norm": "torch", "cross_entropy": "chunked"} | layout
    with megatron_patches.apply(cpu=False), device_and_its_random_states():
        initialise_parallel(resolved)
        (chunk,) = build_chunks(resolved, transformer_arguments(resolved), backends=backends)
        with FakeTensorMode(allow_non_fake_inputs=False):
            chunk = fake_copy(chunk)
            rows = torch.zeros(3, 1, SEQ, dtype=torch.int64, device="cuda")
            batch = MicroBatch(*rows, loss_mask=torch.ones(1, SEQ, device="cuda"), full_seq_length=SEQ)
            if layout.get("planted"):
                chunk.decoder.final_layernorm.weight = torch.nn.Parameter(torch.empty(64, dtype=torch.bfloat16))
            with Watch() as watch:
                loss = chunk(**model_inputs(batch))
        ps.destroy_model_parallel()
    dist.destroy_process_group()
    return watch.strangers, watch.num_operations, loss


@contextmanager
def device_and_its_random_states() -> Iterator[None]:
    """The two things that only a device has: its number, and its generator."""
    tracker = "megatron.core.tensor_parallel.random.CudaRNGStatesTracker"
    with (
        patch("torch.cuda.current_device", lambda: 0), patch(f"{tracker}.add"),
        patch(f"{tracker}.fork", lambda self, name="": nullcontext()),
        patch("megatron.core.tensor_parallel.random._get_cuda_rng_state"),
        patch("megatron.core.tensor_parallel.random._set_cuda_rng_state"),
    ):  # fmt: skip
        yield


def fake_copy(module: torch.nn.Module) -> torch.nn.Module:
    """The module with fake CUDA tensors in place of its parameters and buffers (and of tensors kept as plain attributes)."""
    for one in module.modules():
        for name, parameter in list(one.named_parameters(recurse=False)):
            fake = torch.nn.Parameter(_fake(parameter))
            fake.__dict__.update(parameter.__dict__)
            setattr(one, name, fake)
        for name, value in [*one.named_buffers(recurse=False), *((k, v) for k, v in vars(one).items() if torch.is_tensor(v))]:
            setattr(one, name, _fake(value))
    return module


def _fake(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")


def main() -> int:
    for argument in sys.argv[1:]:
        strangers, num_operations, loss = forward(json.loads(argument))
        print(*sorted(strangers), sep="\n")
        print(f"{argument}: {num_operations} operations, {len(strangers)} strangers, loss {loss.dtype} on {loss.device}")
        if strangers:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
