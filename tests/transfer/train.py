"""One small training on real text (bytes of the standard library's sources), to a held-out loss."""

import hashlib
import json
import sysconfig
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch

from megatron_patches.mup import coordcheck
from megatron_patches.mup.groups import parameter_groups
from megatron_patches.mup.rules import Mup
from megatron_patches.wsd.schedule import Decay, Schedule, Stage

HEAD_DIM, SEQ, EVAL_SEQS = 32, 64, 128


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that decides a result."""

    kind: str = "minicpm"
    width: int = 64
    depth: int = 2
    lr: float = 0.01
    seed: int = 1
    alpha: float = 1.0
    base_width: int = 64
    base_depth: int = 4
    scale_depth: float = 1.4
    init_std: float = 0.1
    kv_share: int = 1
    steps: int = 120
    batch_seqs: int = 8
    weight_decay: float = 0.0
    decay_mode: str = "coupled"
    beta2: float = 0.95
    eps: float = 1e-8

    @property
    def key(self) -> str:
        """Names the job in the cache."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@cache
def corpus() -> tuple[torch.Tensor, torch.Tensor]:
    """Training and held-out bytes: whole files, every eighth held out."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for index, file in enumerate(files):
        parts[index % 8 == 0].append(file.read_bytes())
    train, held_out = (torch.frombuffer(bytearray(b"".join(part)), dtype=torch.uint8) for part in parts)
    return train, held_out


def windows(data: torch.Tensor, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels [count, SEQ] at random places."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(data) - SEQ - 1, (count,), generator=generator).tolist()
    rows = torch.stack([data[start : start + SEQ + 1] for start in starts]).long()
    return rows[:, :-1], rows[:, 1:]


def train_one(job: Job) -> dict[str, float]:
    """Trains with warmup over a tenth and half-life decay over the last fifth.

    Returns:
        Held-out `loss` (nats a byte; a diverged run counts as the uniform guess) and `seconds`.
    """
    started = time.perf_counter()
    mup = Mup(
        job.kind, base_width=job.base_width, width=job.width, base_depth=job.base_depth, depth=job.depth, scale_emb=12,
        scale_depth=job.scale_depth, init_std=job.init_std, alpha=job.alpha, head_dim=HEAD_DIM,
    )  # fmt: skip
    setting = coordcheck.Setting(head_dim=HEAD_DIM, kv_share=job.kv_share, seq_length_tokens=SEQ)
    model = coordcheck.build(mup, setting, job.seed)
    groups = parameter_groups(model, mup, job.lr, job.weight_decay, eps=job.eps, decay_mode=job.decay_mode)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, job.beta2), fused=True)
    tail = max(1, job.steps // 5)
    schedule = Schedule.of_stages(
        [Stage(job.steps - tail), Stage(tail, Decay("half_life", max(1, tail // 4)))], warmup_tokens=job.steps // 10
    )
    inputs, labels = windows(corpus()[0], job.steps * job.batch_seqs, job.seed)
    position = torch.arange(SEQ).expand(job.batch_seqs, SEQ)
    for step in range(job.steps):
        rows = slice(step * job.batch_seqs, (step + 1) * job.batch_seqs)
        for group in optimizer.param_groups:
            group["lr"] = job.lr * group["lr_mult"] * schedule.lr_mult_at(step + 1)
        loss = model(inputs[rows], position, None, labels=labels[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    x, y = windows(corpus()[1], EVAL_SEQS, 0)
    with torch.no_grad():
        final = float(model(x, torch.arange(SEQ).expand_as(x), None, labels=y).mean())
    uniform = float(torch.tensor(256.0).log())
    return {"loss": min(final, uniform) if final == final else uniform, "seconds": time.perf_counter() - started}
