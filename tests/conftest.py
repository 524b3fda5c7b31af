"""Fixtures of all rooms."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")


@pytest.fixture(autouse=True, scope="module")
def patches_end_with_their_module() -> Iterator[None]:
    """A command run in the tests' process leaves its patches in force (`recipe.alone`); the next module starts without."""
    yield
    from megatron_patches.apply import _live

    for applied in reversed(_live[:]):
        applied.undo()
