"""Fixtures: the CPU platform and a world of one process, put back afterwards."""

from collections.abc import Iterator

import pytest
import torch

import megatron_patches
from megatron_patches.cpu.world import single_process_world


@pytest.fixture
def cpu() -> Iterator[megatron_patches.Applied]:
    """The CPU patches, in force for one test, and process groups of one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with megatron_patches.apply(cpu=True) as applied:
        single_process_world()
        yield applied
    torch.set_num_threads(threads)
