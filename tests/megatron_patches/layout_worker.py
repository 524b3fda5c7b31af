"""One rank of a real layout (torchrun): the coordinate check and the audit on the recipe's engine.

torchrun --nproc_per_node 2 layout_worker.py coords tp=2
"""

import json
import os
import sys

os.environ.setdefault("DS_ACCELERATOR", "cpu")
import numpy as np
import torch

import megatron_patches
from megatron_patches.mup import coordcheck
from megatron_patches.mup.rules import Mup

SETTING = coordcheck.Setting(steps=3, batch_seqs=4, seq_length_tokens=32)
MUP = Mup("completep", base_width=64, width=64, base_depth=2, depth=4, scale_emb=12, init_std=0.1, alpha=1.0)


class EngineTrainer:
    """`coordcheck.Trainer` over recipe.engine.Engine."""

    def __init__(
        self,
        mup: Mup,
        setting: coordcheck.Setting,
        seed: int,
        *,
        layout: dict[str, object],
        more: dict[str, object] | None = None,
    ) -> None:
        from recipe.config import RunConfig
        from recipe.engine import Engine
        from recipe.lower import deepspeed_config, transformer_arguments
        from recipe.model import initialise_parallel
        from recipe.resolve import resolve

        heads = mup.width // setting.head_dim
        config = RunConfig.model_validate(
            {
                "name": "coords",
                "model": {
                    "num_layers": mup.depth,
                    "hidden_size": mup.width,
                    "ffn_hidden_size": int(mup.width * setting.ffn_mult),
                    "num_heads": heads,
                    "num_kv_heads": heads // setting.kv_share,
                    "seq_length_tokens": setting.seq_length_tokens,
                    "vocab_size": coordcheck.VOCAB_SIZE,
                },
                "mup": {
                    "parametrization": mup.parametrization,
                    "dim_model_base": mup.base_width,
                    "num_layers_base": mup.base_depth,
                    "scale_emb": mup.scale_emb,
                    "scale_depth": mup.scale_depth,
                    "init_std": mup.init_std,
                    "alpha": mup.alpha,
                },
                "optim": {"peak_lr": setting.peak_lr, "weight_decay": 0.0, "clip": 1e9},
                "batch": {"global_tokens": setting.batch_seqs * setting.seq_length_tokens, "micro_seqs": 1},
                "parallel": layout,
                "backends": {"cross_entropy": "unfused"},  # the coordinate check looks at all logits
                "precision": "fp32",
                "seed": seed,
            }
        )
        resolved = resolve(config, world_size=torch.distributed.get_world_size())
        initialise_parallel(resolved)
        self.setting = setting
        deepspeed = {**deepspeed_config(resolved), **(more or {})}
        self.engine = Engine(resolved, transformer=transformer_arguments(resolved), deepspeed_config=deepspeed)
        self.chunks = self.engine.chunks
        self.engine.set_lr(setting.peak_lr)

    def _micro_batches(self, tokens: torch.Tensor, *, rows: slice) -> list:
        from recipe.batch import micro_batch

        mine = tokens[rows].numpy().astype(np.int64)
        return [micro_batch(row[None], np.ones((1, self.setting.seq_length_tokens), dtype=np.float32)) for row in mine]

    def forward(self, tokens: torch.Tensor) -> None:
        """One micro batch with all of the probe, the same on every replica: the capture keeps the last forward."""
        from recipe.batch import micro_batch

        mask = np.ones((len(tokens), self.setting.seq_length_tokens), dtype=np.float32)
        batch = micro_batch(tokens.numpy().astype(np.int64), mask)
        self.engine.loss_sums([batch] * len(self.chunks))  # an interleaved pipeline wants as many as it has stages

    def train(self, tokens: torch.Tensor) -> float:
        """One step; each replica takes its rows."""
        from megatron.core import parallel_state as ps

        rank, size = ps.get_data_parallel_rank(), ps.get_data_parallel_world_size()  # context parallelism cuts rows itself
        batches = self._micro_batches(tokens, rows=slice(rank, None, size))
        return self.engine.train_step(batches, num_targets=tokens[:, 1:].numel()).loss


def coords(layout: dict[str, object]) -> dict[str, object]:
    """Measurements at two widths."""
    out = []
    for width in (64, 128):
        mup = coordcheck.sized(MUP, "width", width, SETTING)
        trainer = EngineTrainer(mup, SETTING, 1, layout=layout)
        batches = coordcheck.text_batches(SETTING, seed=1)
        out.append(coordcheck.measure_one(trainer, batches, axis="width", size=width, seed=1))
        trainer.engine.close()
    return coordcheck.as_json(MUP, SETTING, out, coordcheck.judge(out))


def audit(layout: dict[str, object]) -> dict[str, object]:
    """Findings on a healthy run and after each planted accident."""
    from tests.megatron_patches.accidents import SCHEDULER_BLOCK, findings, run_audits

    mup, batches = coordcheck.sized(MUP, "width", 128, SETTING), coordcheck.text_batches(SETTING, seed=1)
    trainer = EngineTrainer(mup, SETTING, 1, layout=layout)
    trainer.train(batches[1])
    result: dict[str, object] = dict(run_audits(trainer.engine, trainer.engine.mup, SETTING.peak_lr, coordcheck.VOCAB_SIZE))
    trainer.engine.close()
    blocked = EngineTrainer(mup, SETTING, 1, layout=layout, more=SCHEDULER_BLOCK)
    blocked.train(batches[1])
    result["deepspeed_scheduler_block"] = findings(blocked.engine, mup, SETTING.peak_lr, coordcheck.VOCAB_SIZE)
    return result


def main() -> None:
    """Runs one job; rank 0 prints its result as a line of JSON."""
    job, *pairs = sys.argv[1:]
    layout = {
        key: (value == "true" if value in ("true", "false") else int(value)) for key, value in (p.split("=") for p in pairs)
    }
    torch.set_num_threads(1)
    with megatron_patches.apply(cpu=True):
        torch.distributed.init_process_group("gloo")
        result = {"coords": coords, "audit": audit}[job](layout)
        if torch.distributed.get_rank() == 0:
            print("\n" + json.dumps(result), flush=True)
        torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
