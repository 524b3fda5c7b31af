"""Fixtures of all rooms."""

import os
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
RENDEZVOUS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True, scope="module")
def a_module_ends_what_it_began() -> Iterator[None]:
    """A command run in the tests' process leaves patches in force, process groups up and their variables set (`recipe.alone`);
    the next module starts without."""
    before = {name: os.environ.get(name) for name in RENDEZVOUS}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    from megatron_patches.apply import _live

    for applied in reversed(_live[:]):
        applied.undo()
    if "torch.distributed" in sys.modules and sys.modules["torch.distributed"].is_initialized():
        from tests.parity import end_groups

        end_groups()
