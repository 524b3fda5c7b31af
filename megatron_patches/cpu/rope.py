"""Rotary positions under context parallelism are picked by an index that needs no pinned memory."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    from megatron_patches.cpu.device_names import torch_on_cpu

    return torch_on_cpu(original, option)


_MODULE = "megatron.core.models.common.embeddings.rope_utils"
PATCH = Patch(
    name="cpu/rope",
    target=f"{_MODULE}:torch",
    rung=Rung.WRAP,
    fingerprints={"0.16.1": "8784b726a507", "0.19.2": "8784b726a507"},
    why="get_pos_emb_on_this_cp_rank pins the two slice numbers in memory, which only a GPU build can",
    retires_when="the index is made on the embedding's device",
    install=_install,
    watch=(f"{_MODULE}:get_pos_emb_on_this_cp_rank",),
)
