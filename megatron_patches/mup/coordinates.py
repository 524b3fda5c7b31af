"""What a coordinate check measures: root mean squares of activations by module, and how far training moved them.

Works on any layout: squares and counts are summed over all ranks, so that pieces of a tensor (tensor and sequence
parallel), of the depth (pipeline) and copies (data parallel) come out as the same means.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from megatron_patches.mup.init import unwrapped

MODULES = ("embedding", "attention_scores", "attention", "mlp", "residual", "logits")
Captured = dict[tuple[str, int], Tensor]  # (module, layer) -> activation on this rank


@contextmanager
def capture(chunks: list[torch.nn.Module]) -> Iterator[Captured]:
    """Records the activations of the forward passes inside the context (the last one, if several)."""
    found: Captured = {}
    handles: list[Any] = []

    def record(module: torch.nn.Module, key: tuple[str, int]) -> None:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            found[key] = (output[0] if isinstance(output, tuple) else output).detach().float().clone()

        handles.append(module.register_forward_hook(hook))

    for chunk in map(unwrapped, chunks):
        if chunk.pre_process:
            record(chunk.embedding, ("embedding", 0))  # type: ignore[arg-type]
        for layer in chunk.decoder.layers:  # type: ignore[union-attr]
            number = layer.layer_number - 1
            record(layer.self_attention, ("attention", number))
            record(layer.mlp, ("mlp", number))
            record(layer, ("residual", number))
            core = layer.self_attention.core_attention
            if getattr(core, "cp_group", None) is None:  # a rank's queries meet keys of other ranks there
                handles.append(_record_scores(core, found, ("attention_scores", number)))
        if chunk.post_process:
            record(chunk.output_layer, ("logits", 0))  # type: ignore[arg-type]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _record_scores(core: Any, found: Captured, key: tuple[str, int]) -> Any:
    """Scores never exist under flash attention; they are recomputed from the queries and keys that go in."""

    def hook(_module: Any, args: Any, kwargs: Any) -> None:
        q, k = (args[i] if len(args) > i else kwargs[name] for i, name in enumerate(("query", "key")))  # [s, b, n/tp, d]
        k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
        scores = torch.einsum("qbnd,kbnd->bnqk", q.detach().float(), k.detach().float()) * core.softmax_scale
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        found[key] = scores[..., seen]

    return core.register_forward_pre_hook(hook, with_kwargs=True)


def root_mean_squares(captured: Captured, *, minus: Captured | None = None) -> dict[str, float]:
    """Root mean square per module over layers, elements and ranks; of the difference to `minus` where given.

    `residual` is the stream after the last layer (the layers before it lead up to it).
    """
    sums = torch.zeros(len(MODULES), 2, dtype=torch.float64)
    last = torch.tensor(max((layer for name, layer in captured if name == "residual"), default=-1))
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(last, op=torch.distributed.ReduceOp.MAX)
    for (name, layer), value in captured.items():
        if name == "residual" and layer != int(last):
            continue
        value = value if minus is None else value - minus[(name, layer)]
        value = value[torch.isfinite(value)].double()  # padded logits are masked to -inf
        sums[MODULES.index(name)] += torch.tensor([float(value.square().sum()), value.numel()], dtype=torch.float64)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    return {name: float((total / count).sqrt()) for name, (total, count) in zip(MODULES, sums) if count}
