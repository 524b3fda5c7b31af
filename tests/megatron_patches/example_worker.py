"""One rank (torchrun) of the Megatron-Core-only example: its audit, and the coordinate check on it.

torchrun --nproc_per_node 2 example_worker.py minicpm
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import torch

import megatron_patches
from megatron_patches.cpu.world import single_process_world
from megatron_patches.example_megatron_only import MUP, Training
from megatron_patches.mup import coordcheck
from megatron_patches.mup.audit import audit
from megatron_patches.mup.rules import Mup
from megatron_patches.wsd.half_life import HalfLife


class ExampleTrainer:
    """`coordcheck.Trainer` over the example."""

    def __init__(self, mup: Mup, seed: int) -> None:
        torch.manual_seed(seed)
        self.training = Training(width=mup.width, depth=mup.depth, heads=mup.width // mup.head_dim)
        self.training.scheduler.step(2)  # past the warmup: Megatron's first step has lr 0, and so no update to measure
        self.chunks: list[torch.nn.Module] = [self.training.model]

    def forward(self, tokens: torch.Tensor) -> None:
        """All of the probe on each replica."""
        ids = tokens[:, :-1]
        with torch.no_grad():
            self.training.model(ids, torch.arange(ids.shape[1]).expand_as(ids), None)

    def train(self, tokens: torch.Tensor) -> float:
        """Each replica takes its rows."""
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        return self.training.step(tokens[rank::size])[0]


def check(kind: str, setting: coordcheck.Setting, widths: Sequence[int]) -> dict[str, Any]:
    """Two seeds at each width, judged; `audit` says what the optimizer differs by from the table."""
    measured, findings = [], []
    base = Mup(**{**vars(MUP), "parametrization": kind})
    for width in widths:
        mup = coordcheck.sized(base, "width", width, setting)
        with megatron_patches.apply(cpu=True, mup=mup, wsd=HalfLife(4)):
            single_process_world()  # torchrun's, where main() has begun it
            for seed in (1, 2):
                trainer = ExampleTrainer(mup, seed)
                batches = coordcheck.text_batches(setting, seed=seed)
                measured.append(coordcheck.measure_one(trainer, batches, axis="width", size=width, seed=seed))
                # warmup is over, the decay has not begun
                findings += audit(trainer.chunks, trainer.training.optimizer, mup, base_lr=0.01, weight_decay=0.1)
    found = coordcheck.as_json(base, setting, measured, coordcheck.judge(measured))
    return {**found, "audit": [str(one) for one in findings]}


def main() -> None:
    """Rank 0 prints the coordinate check and the audit's findings as a line of JSON."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    found = check(sys.argv[1], coordcheck.Setting(steps=10, batch_seqs=8, kv_share=2), (64, 128, 256, 512))
    if torch.distributed.get_rank() == 0:
        print("\n" + json.dumps(found), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
