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
from megatron_patches.mup.rules import Budget, Mup
from megatron_patches.wsd.schedule import Decay, Schedule, Stage

SEQ, EVAL_SEQS = 128, 128


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that decides a result.

    Attributes:
        lr: Base learning rate; `batch_mult` and `duration_mult` scale it (and betas, eps, weight decay) if `scaled`.
        kv_share: Query heads for each key-value head.
        batch_mult, duration_mult: Batch and tokens, relative to 12 sequences a step and 80 steps.
    """

    kind: str = "minicpm"
    width: int = 64
    depth: int = 2
    lr: float = 0.01
    seed: int = 1
    alpha: float = 1.0
    base_width: int = 64
    base_depth: int = 4
    head_dim: int = 32
    scale_depth: float = 1.4
    init_std: float = 0.1
    kv_share: int = 1
    weight_decay: float = 0.0
    decay_mode: str = "coupled"
    batch_mult: float = 1.0
    duration_mult: float = 1.0
    scaled: bool = True

    @property
    def key(self) -> str:
        """Names the job in the results file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def batch_seqs(self) -> int:
        return round(12 * self.batch_mult)

    @property
    def steps(self) -> int:
        return round(80 * self.duration_mult / self.batch_mult)

    @property
    def budget(self) -> Budget:
        """The rule for batch and duration, or none."""
        return Budget(batch_mult=self.batch_mult, duration_mult=self.duration_mult) if self.scaled else Budget()


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


def mup_of(job: Job) -> Mup:
    """The job's table. Its 1/d attention equals 1/√d at the head size, which is the same for every job of a curve."""
    return Mup(
        job.kind, base_width=job.base_width, width=job.width, base_depth=job.base_depth, depth=job.depth, scale_emb=12,
        scale_depth=job.scale_depth, init_std=job.init_std, alpha=job.alpha, head_dim=job.head_dim, base_head_dim=job.head_dim,
        budget=job.budget,
    )  # fmt: skip


def schedule_of(steps: int) -> Schedule:
    """In steps: warmup over a tenth, half-life decay to 1/16 over the last fifth."""
    tail = steps // 5
    decay = Decay("half_life", tail // 4)
    return Schedule.of_stages([Stage(steps - tail), Stage(tail, decay)], warmup_tokens=steps // 10)


def train_one(job: Job) -> dict[str, float]:
    """Trains one model.

    Returns:
        Held-out `loss` (nats a byte; a diverged run counts as the uniform guess) and `seconds`.
    """
    started = time.perf_counter()
    mup, schedule = mup_of(job), schedule_of(job.steps)
    setting = coordcheck.Setting(head_dim=job.head_dim, kv_share=job.kv_share, seq_length_tokens=SEQ)
    model = coordcheck.build(mup, setting, job.seed)
    groups = parameter_groups(model, mup, job.lr, job.weight_decay, betas=(0.9, 0.95), decay_mode=job.decay_mode)
    optimizer = torch.optim.AdamW(groups, fused=True)
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
