"""A GPTModel that is given labels and a loss mask returns the summed loss, in chunks where that is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from megatron_patches.patch import Patch, Rung

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PATCH = Patch(
    name="loss/chunked",
    target="megatron.core.models.gpt.gpt_model:GPTModel._postprocess",
    rung=Rung.HOOK,
    fingerprints={"0.16.1": "13ca14cca829", "0.19.2": "79af10eeb3d5"},
    why="upstream materialises tokens × vocabulary logits before the loss, and rows that pad the vocabulary take part in it",
    retires_when="upstream's linear cross-entropy runs on any device and masks padding",
)


def attach(model: torch.nn.Module, *, vocab_size: int, chunked: bool) -> None:
    """On a model chunk with a head: `model(…, labels=…, loss_mask=…)` is Σ loss_mask · loss, a float32 scalar.

    Without a mask it is upstream's loss of each token, without labels the logits; in all three, rows that only pad the
    vocabulary take no part.

    Args:
        vocab_size: Rows that don't pad.
        chunked: Never make all logits at once.
    """
    from megatron.core import parallel_state as ps

    head: Any = model.output_layer
    rows = head.output_size_per_partition
    num_rows = min(max(vocab_size - ps.get_tensor_model_parallel_rank() * rows, 0), rows)
    head.forward = _head(head, head.forward, num_rows=num_rows)
    model._postprocess = _postprocess(model, model._postprocess, chunked=chunked)  # type: ignore[assignment, arg-type]


def _head(head: Any, logits_of: Callable[..., Any], *, num_rows: int) -> Callable[..., Any]:
    """The head's forward: with labels their loss, else logits. Inside the module, so that hooks and ZeRO-3 see it."""

    def forward(hidden: Tensor, *, labels: Tensor | None = None, loss_mask: Tensor | None = None, **rest: Any) -> Any:
        if labels is not None:
            weight = head.weight if rest.get("weight") is None else rest["weight"]
            return _chunked_loss(head, hidden, weight, labels, loss_mask, num_rows=num_rows)
        logits, bias = logits_of(hidden, **rest)  # [s, b, v/tp]
        if num_rows < head.output_size_per_partition:
            logits[..., num_rows : head.output_size_per_partition] = float("-inf")
        return logits, bias

    return forward


def _chunked_loss(head: Any, hidden: Tensor, weight: Tensor, labels: Tensor, loss_mask: Any, *, num_rows: int) -> Tensor:
    from megatron.core import parallel_state as ps
    from megatron.core.tensor_parallel import mappings

    from megatron_patches.loss.chunked import summed_loss

    group = ps.get_tensor_model_parallel_group()
    gather = mappings.gather_from_sequence_parallel_region if head.sequence_parallel else (
        mappings.copy_to_tensor_model_parallel_region
    )
    flat = gather(hidden, group=group).flatten(0, 1)  # [s, b, h] -> [n, h]
    return summed_loss(
        flat, weight, labels.transpose(0, 1).reshape(-1), loss_mask.float().transpose(0, 1).reshape(-1),
        num_rows=num_rows, group=group,
    )


def _postprocess(model: Any, original: Callable[..., Any], *, chunked: bool) -> Callable[..., Any]:
    def postprocess(hidden_states: Tensor, *, labels: Tensor | None, loss_mask: Tensor | None = None, **rest: Any) -> Any:
        if labels is None or loss_mask is None:
            return original(hidden_states, labels=labels, loss_mask=loss_mask, **rest)
        if not chunked:
            per_token = original(hidden_states, labels=labels, loss_mask=None, **rest)  # [b, s]
            return (per_token.float() * loss_mask.view_as(per_token)).sum()
        weight = model.shared_embedding_or_output_weight() if model.share_embeddings_and_output_weights else None
        return model.output_layer(hidden_states, weight=weight, labels=labels, loss_mask=loss_mask)

    return postprocess
