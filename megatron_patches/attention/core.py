"""Causal attention by torch's scaled_dot_product_attention, in place of DotProductAttention.

Context parallelism: a rank holds slices r and 2·cp − 1 − r of the sequence (Megatron-Core's cut, causal work is even);
keys and values, which grouped queries keep small, are gathered, and each slice attends to what lies before it.

Documents: a batch packed as `thd` with `cu_seqlens` attends within each document only (and Megatron-Core restarts the
rotary positions there); a boolean mask (True = hidden, Megatron's sense) is honoured too.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.transformer.module import MegatronModule
from torch import Tensor

from megatron_patches.errors import PatchError


class SdpaCoreAttention(MegatronModule):
    """Takes the arguments with which a layer spec builds a core attention."""

    def __init__(
        self,
        config: Any,
        layer_number: int,
        attn_mask_type: Any,
        attention_type: str,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        cp_comm_type: str | None = None,
        pg_collection: Any = None,
    ) -> None:
        super().__init__(config=config)
        unsupported = {
            "apply_query_key_layer_scaling": config.apply_query_key_layer_scaling,
            "window_size": config.window_size is not None,
            "softmax_type": config.softmax_type != "vanilla",
        }
        if any(unsupported.values()):
            raise PatchError(f"SDPA attention does not cover {[name for name, on in unsupported.items() if on]}")
        self.layer_number = layer_number
        self.softmax_scale = softmax_scale if softmax_scale is not None else 1 / math.sqrt(config.kv_channels)
        self.cp_group = _context_parallel_group(config, pg_collection)
        self.dropout_p = config.attention_dropout if attention_dropout is None else attention_dropout

    def forward(
        self,
        query: Tensor,  # [s, b, n/tp, d], packed [t, n/tp, d]
        key: Tensor,  # [s, b, g/tp, d]
        value: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: Any = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: Any = None,
    ) -> Tensor:
        """Attends.

        Returns:
            [s, b, n/tp * d]; packed: [t, n/tp * d].
        """
        if attention_bias is not None:
            raise PatchError("SDPA attention takes no attention_bias")
        if self.cp_group is not None:
            if packed_seq_params is not None or attention_mask is not None:
                raise PatchError("SDPA attention under context parallelism is causal over the whole row: no documents, no mask")
            return self._context_parallel(query, key, value)
        if packed_seq_params is not None:
            return self._packed(query, key, value, packed_seq_params.cu_seqlens_q)
        # [s, b, n, d] -> [b, n, s, d]: a view, no copy
        context = self._attend(*(x.permute(1, 2, 0, 3) for x in (query, key, value)), mask=attention_mask)
        return context.permute(2, 0, 1, 3).reshape(query.shape[0], query.shape[1], -1)

    def _context_parallel(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rank, size = self.cp_group.rank(), self.cp_group.size()
        key, value = (_gather_in_order(x, self.cp_group) for x in (key, value))  # [s, b, g/tp, d]
        length = query.shape[0] // 2
        out = []
        for part, index in zip(query.split(length), (rank, 2 * size - 1 - rank)):
            end = (index + 1) * length
            seen = torch.ones(length, end, dtype=torch.bool, device=query.device).tril(diagonal=index * length)
            q, k, v = (x.permute(1, 2, 0, 3) for x in (part, key[:end], value[:end]))
            out.append(self._attend(q, k, v, mask=~seen).permute(2, 0, 1, 3))
        return torch.cat(out).flatten(2)

    def _packed(self, query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor) -> Tensor:
        """One call a document: no s × s mask exists, and no work is done across documents."""
        lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
        parts = zip(*(x.split(lengths) for x in (query, key, value)))
        out = [
            self._attend(*(x.transpose(0, 1)[None] for x in part), mask=None)[0].transpose(0, 1)
            for part in parts
            if part[0].numel()
        ]
        return torch.cat(out).flatten(1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if mask is None else ~mask,
            dropout_p=self.dropout_p if self.training else 0.0,
            is_causal=mask is None,
            scale=self.softmax_scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )


class FlashCoreAttention(SdpaCoreAttention):
    """flash-attn's kernels where attention is causal over rows or documents, SDPA where there is a mask. Not run by us."""

    def _packed(self, query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor) -> Tensor:
        from flash_attn import flash_attn_varlen_func

        longest = int((cu_seqlens[1:] - cu_seqlens[:-1]).max())
        return flash_attn_varlen_func(
            query, key, value, cu_seqlens, cu_seqlens, longest, longest, dropout_p=self.dropout_p if self.training else 0.0,
            softmax_scale=self.softmax_scale, causal=True,
        ).flatten(1)  # fmt: skip

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None) -> Tensor:
        if mask is not None:
            return super()._attend(q, k, v, mask=mask)
        from flash_attn import flash_attn_func

        dropout = self.dropout_p if self.training else 0.0
        rows = (x.transpose(1, 2) for x in (q, k, v))  # [b, s, n, d]
        return flash_attn_func(*rows, dropout_p=dropout, softmax_scale=self.softmax_scale, causal=True).transpose(1, 2)


def _context_parallel_group(config: Any, pg_collection: Any) -> Any:
    """The group that shares a sequence, or None."""
    if config.context_parallel_size == 1:
        return None
    from megatron.core import parallel_state

    return getattr(pg_collection, "cp", None) or parallel_state.get_context_parallel_group()


def _gather_in_order(x: Tensor, group: Any) -> Tensor:
    """All ranks' slices in the sequence's order; the gradient is summed back to where each came from."""
    from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region

    size = group.size()
    slices = gather_from_sequence_parallel_region(x.contiguous(), tensor_parallel_output_grad=True, group=group).chunk(2 * size)
    held = [index for rank in range(size) for index in (rank, 2 * size - 1 - rank)]  # slice at each place
    return torch.cat([slices[held.index(index)] for index in range(2 * size)])


def packed_params(document_ends: Tensor) -> Any:
    """Packs documents for Megatron-Core: from ends (exclusive, ascending, the last is the length) to cu_seqlens."""
    from megatron.core.packed_seq_params import PackedSeqParams

    starts = torch.zeros(1, dtype=torch.int32, device=document_ends.device)
    cu_seqlens = torch.cat([starts, document_ends.to(torch.int32)])
    longest = int((cu_seqlens[1:] - cu_seqlens[:-1]).max())
    return PackedSeqParams(
        qkv_format="thd",
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_kv=cu_seqlens,
        max_seqlen_q=longest,
        max_seqlen_kv=longest,
    )
