"""Micro batches: tokens from the stream as this rank's model inputs."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from megatron.core import parallel_state as ps


@dataclass(frozen=True)
class MicroBatch:
    """One forward's input; all tensors are [rows, s/cp]."""

    tokens: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    loss_mask: torch.Tensor
    full_seq_length: int
    """Before context parallelism cuts it; what the pipeline schedule is told."""
    document_ends: torch.Tensor | None = None
    """int32, exclusive ends of documents over the flattened rows, where attention is reset; None: it isn't."""

    @property
    def num_rows(self) -> int:
        return self.tokens.shape[0]

    def to(self, device: str) -> "MicroBatch":
        if device == "cpu":
            return self
        names = ("tokens", "labels", "position_ids", "loss_mask", "document_ends")
        return replace(self, **{n: t.to(device, non_blocking=True) for n in names if (t := getattr(self, n)) is not None})


def micro_batch(tokens: np.ndarray, loss_mask: np.ndarray, *, eod_id: int | None = None) -> MicroBatch:
    """From int64[rows, s + 1] tokens and float32[rows, s] mask; `eod_id`: reset attention at document ends."""
    rows = torch.from_numpy(tokens)
    inputs, labels = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    length = inputs.shape[1]
    positions = torch.arange(length).expand_as(inputs)
    mask = torch.from_numpy(loss_mask)
    ends = _document_ends(inputs, eod_id) if eod_id is not None else None
    parts = {"tokens": inputs, "labels": labels, "position_ids": positions, "loss_mask": mask}
    return MicroBatch(
        **{name: _cp_part(part) for name, part in parts.items()}, full_seq_length=length, document_ends=ends
    )


def _document_ends(inputs: torch.Tensor, eod_id: int) -> torch.Tensor:
    """A document ends after its end-of-document token, and at each row's end."""
    is_end = inputs == eod_id
    is_end[:, -1] = True
    return (is_end.reshape(-1).nonzero().reshape(-1) + 1).to(torch.int32)


def _cp_part(whole: torch.Tensor) -> torch.Tensor:
    """This context-parallel rank's two of 2·cp slices: r from the front, r from the back, so that causal work is even."""
    size = ps.get_context_parallel_world_size()
    if size == 1:
        return whole
    rank = ps.get_context_parallel_rank()
    slices = whole.chunk(2 * size, dim=1)
    return torch.cat([slices[rank], slices[2 * size - 1 - rank]], dim=1)


def model_inputs(batch: MicroBatch) -> dict[str, Any]:
    """Keyword arguments of GPTModel.forward (whose answer is the summed loss, by the mask); attention is causal, by packing
    where documents are kept apart."""
    rows = {"input_ids": batch.tokens, "position_ids": batch.position_ids, "labels": batch.labels, "loss_mask": batch.loss_mask}
    inputs: dict[str, Any] = {"attention_mask": None, **rows}
    if batch.document_ends is not None:
        from megatron_patches.attention.core import packed_params

        inputs |= {name: values.reshape(1, -1) for name, values in rows.items()}
        inputs["packed_seq_params"] = packed_params(batch.document_ends)
    return inputs
