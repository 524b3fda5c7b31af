"""The CPU platform for the points that are really trained."""

from tests.megatron_patches.conftest import cpu

__all__ = ["cpu"]
