"""One rank (torchrun) of the Megatron-Core-only example: its audit, and the coordinate check on it.

torchrun --nproc_per_node 2 example_worker.py minicpm
"""

import json
import sys

import torch

import megatron_patches
from megatron_patches.example_megatron_only import MUP, Training
from megatron_patches.mup import coordcheck
from megatron_patches.mup.audit import audit
from megatron_patches.mup.rules import Mup
from megatron_patches.wsd.half_life import HalfLife

SETTING = coordcheck.Setting(steps=10, batch_seqs=8, kv_share=2)


class ExampleTrainer:
    """`coordcheck.Trainer` over the example."""

    def __init__(self, mup: Mup, seed: int) -> None:
        torch.manual_seed(seed)
        self.training = Training(width=mup.width, depth=mup.depth, heads=mup.width // mup.head_dim)
        self.training.scheduler.step(2)  # past the warmup: Megatron's first step has lr 0, and so no update to measure
        self.chunks: list[torch.nn.Module] = [self.training.model]

    def forward(self, tokens: torch.Tensor) -> None:
        """All of the probe on each replica."""
        with torch.no_grad():
            self.training.loss(tokens)

    def train(self, tokens: torch.Tensor) -> float:
        """Each replica takes its rows."""
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        return self.training.step(tokens[rank::size])[0]


def main() -> None:
    """Rank 0 prints the coordinate check and the audit's findings as a line of JSON."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    measured, findings = [], []
    base = Mup(**{**vars(MUP), "parametrization": sys.argv[1]})
    for width in (64, 128, 256, 512):
        mup = coordcheck.sized(base, "width", width, SETTING)
        with megatron_patches.apply(cpu=True, mup=mup, wsd=HalfLife(4)):
            from megatron.core import parallel_state

            if not parallel_state.model_parallel_is_initialized():
                parallel_state.initialize_model_parallel()
            for seed in (1, 2):
                trainer = ExampleTrainer(mup, seed)
                batches = coordcheck.text_batches(SETTING, seed=seed)
                measured.append(coordcheck.measure_one(trainer, batches, axis="width", size=width, seed=seed))
                # warmup is over, the decay has not begun
                findings += audit(trainer.chunks, trainer.training.optimizer, mup, base_lr=0.01, weight_decay=0.1)
    if torch.distributed.get_rank() == 0:
        found = coordcheck.as_json(base, SETTING, measured, coordcheck.judge(measured))
        print("\n" + json.dumps({**found, "audit": [str(one) for one in findings]}), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
