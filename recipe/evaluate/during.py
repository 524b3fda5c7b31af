"""Held-out loss of the live model, in whatever layout it trains in."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state as ps

from data_prep.tokenizer import load_tokenizer
from recipe.batch import micro_batch
from recipe.engine import Engine, eval_mode
from recipe.evaluate.heldout import bytes_per_token, heldout_sets
from recipe.resolve import ResolvedRun


def heldout_losses(engine: Engine, resolved: ResolvedRun) -> dict[str, dict[str, Any]]:
    """Source → loss_nats, bits_per_byte, num_tokens, num_bytes; the same on all ranks."""
    assert resolved.tokenizer_dir is not None
    token_bytes = bytes_per_token(load_tokenizer(resolved.tokenizer_dir))
    results = {}
    with eval_mode(engine):
        for name, windows in heldout_sets(resolved).items():
            nats = window_nats(engine, resolved, windows)
            targets = windows[:, 1:]
            num_bytes = int(token_bytes[targets].sum())
            results[name] = {
                "loss_nats": nats / targets.size, "bits_per_byte": nats / np.log(2) / max(num_bytes, 1),
                "num_tokens": int(targets.size), "num_bytes": num_bytes, "baselines": {},
            }
    return results


def window_nats(engine: Engine, resolved: ResolvedRun, windows: np.ndarray) -> float:
    """Nats summed over all targets of the windows [n, s + 1], shared out over data-parallel ranks."""
    dp, micro = resolved.layout.dp, resolved.config.batch.micro_seqs
    row = dp * micro * (resolved.layout.pp if resolved.layout.vp > 1 else 1)
    padding = -len(windows) % row
    padded = np.concatenate([windows, np.repeat(windows[:1], padding, axis=0)])
    mask = np.ones((len(padded), windows.shape[1] - 1), dtype=np.float32)
    mask[len(windows) :] = 0
    rank = ps.get_data_parallel_rank()
    starts = [start + rank * micro for start in range(0, len(padded), dp * micro)]
    total = torch.tensor(
        sum(engine.loss_sums([micro_batch(padded[a : a + micro], mask[a : a + micro]) for a in starts])),
        dtype=torch.float64, device=engine.device,
    )
    dist.all_reduce(total, group=ps.get_data_parallel_group())
    return float(total)
