"""Head and cross-entropy in one, over chunks of tokens and a vocabulary split by tensor parallelism.

The loss is a masked sum, so its gradient is known up to one factor: it is computed with each chunk's logits still in cache
and scaled in the backward pass. Nothing is recomputed, and no more than one chunk of logits exists (the idea of Liger
Kernel, arXiv 2410.10989; its vocabulary isn't split).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from megatron_patches.loss import CHUNK_BYTES


def summed_loss(
    hidden: Tensor, weight: Tensor, labels: Tensor, loss_mask: Tensor, *, num_rows: int, group: dist.ProcessGroup
) -> Tensor:
    """Σ loss_mask · cross-entropy(hidden · weightᵀ, labels), the same on all ranks of the group.

    Args:
        hidden: [n, h]; its gradient is this rank's part of the sum over the group.
        weight: [v/tp, h]; rows from num_rows on pad the vocabulary and take no part.
        labels: int64[n] over the whole vocabulary.
        loss_mask: float32[n].

    Returns:
        float32 scalar.
    """
    return _SummedLoss.apply(hidden, weight, labels, loss_mask, num_rows, group, torch.is_grad_enabled())


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, loss_mask: Tensor, num_rows: int,
        group: dist.ProcessGroup, with_gradient: bool,
    ) -> Tensor:
        used = weight[:num_rows]
        labels = labels - dist.get_rank(group) * weight.shape[0]
        if with_gradient:
            grad_hidden = torch.empty_like(hidden)
            grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for rows in _chunks(hidden, num_rows=max(1, num_rows)):
            x, mask = hidden[rows], loss_mask[rows]
            powers, log_share, losses, own = _softmax(x @ used.t(), labels[rows], num_rows=num_rows, group=group)
            total += (losses * mask).sum()
            if with_gradient:
                grad = powers.mul_((log_share.exp() * mask)[:, None])
                if num_rows:
                    grad.scatter_add_(1, labels[rows].clamp(0, num_rows - 1)[:, None], -(own * mask)[:, None])
                grad = grad.to(x.dtype)
                torch.mm(grad, used, out=grad_hidden[rows])
                _accumulate(grad_weight[:num_rows], grad, x)
                del grad
            del powers  # before the next chunk's logits
        if with_gradient:
            ctx.gradients = grad_hidden, grad_weight
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad_hidden, grad_weight = ctx.gradients
        del ctx.gradients  # scaled in place: good for one pass
        return grad_hidden.mul_(grad_total), grad_weight.mul_(grad_total), None, None, None, None, None


def _chunks(hidden: Tensor, *, num_rows: int) -> list[slice]:
    size = max(64, CHUNK_BYTES[hidden.device.type] // (4 * num_rows))
    return [slice(start, start + size) for start in range(0, len(hidden), size)]


def _softmax(
    logits: Tensor, labels: Tensor, *, num_rows: int, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """exp(logits − peak) of this rank's rows, log of what makes them probabilities, losses, 1 where a label is here."""
    logits = logits.float()  # [c, v/tp]
    own = (labels >= 0) & (labels < num_rows)
    if num_rows:
        peak = logits.amax(-1)
        target = logits.gather(1, labels.clamp(0, num_rows - 1)[:, None])[:, 0].where(own, 0)
    else:  # every row of this rank pads the vocabulary
        peak, target = logits.new_full((len(labels),), float("-inf")), logits.new_zeros(len(labels))
    powers = logits.sub_(peak[:, None]).exp_()
    peaks, sums, targets = _from_all(torch.stack([peak, powers.sum(-1), target]), group)  # [tp, c] each
    top = peaks.amax(0)
    normaliser = top + ((peaks - top).exp() * sums).sum(0).log()
    return powers, peak - normaliser, normaliser - targets.sum(0), own.float()


def _from_all(mine: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[3, c] of each rank as [3, tp, c]."""
    size = dist.get_world_size(group)
    if size == 1:
        return mine[:, None]
    gathered = mine.new_empty(size * len(mine), mine.shape[1])  # gloo takes the ranks' rows one after the other
    dist.all_gather_into_tensor(gathered, mine, group=group)
    return gathered.view(size, *mine.shape).transpose(0, 1)


def _accumulate(total: Tensor, grad: Tensor, x: Tensor) -> None:
    """total += gradᵀ · x, in fp32."""
    if grad.dtype == total.dtype:
        total.addmm_(grad.t(), x)
    else:
        total += grad.t() @ x
