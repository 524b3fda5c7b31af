"""`torch.cuda.synchronize()` does nothing: gloo's requests are waited for on the host already."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    return lambda device=None: None


PATCH = Patch(
    name="cpu/synchronize",
    target="torch.cuda:synchronize",
    rung=Rung.REPLACE,
    why="the pipeline's point-to-point code synchronizes after batched sends, which raises without a GPU",
    retires_when="megatron-core synchronizes only where a GPU is in use",
    install=_install,
)
