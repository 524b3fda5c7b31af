"""Megatron-Core alone, with our muP and WSD: its own DDP, distributed optimizer and scheduler; no DeepSpeed, no recipe.

torchrun --nproc_per_node 2 megatron_patches/example_megatron_only.py
"""

import torch
import torch.nn.functional as F

import megatron_patches
from megatron_patches.cpu.config import CPU_CONFIG
from megatron_patches.cpu.optimizer import CPU_DDP
from megatron_patches.mup.rules import Mup
from megatron_patches.wsd.half_life import HalfLife

STEPS, SEQ, BATCH, VOCAB = 20, 64, 8, 256
MUP = Mup("minicpm", base_width=64, width=128, depth=2, scale_emb=12, scale_depth=1.4, init_std=0.1, head_dim=32)


class Training:
    """Nothing here knows of muP: `apply(mup=…, wsd=…)` is in force, and upstream's classes do the rest."""

    def __init__(self, *, width: int, depth: int, heads: int) -> None:
        from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
        from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
        from megatron.core.models.gpt.gpt_model import GPTModel
        from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
        from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler
        from megatron.core.transformer.transformer_config import TransformerConfig

        config = TransformerConfig(
            num_layers=depth, hidden_size=width, ffn_hidden_size=5 * width // 2, num_attention_heads=heads,
            num_query_groups=heads // 2, gated_linear_unit=True, activation_func=F.silu, add_bias_linear=False,
            normalization="RMSNorm", hidden_dropout=0.0, attention_dropout=0.0, **CPU_CONFIG,
        )  # fmt: skip
        spec = get_gpt_layer_local_spec(normalization="RMSNorm")
        model = GPTModel(config, spec, VOCAB, SEQ, position_embedding_type="rope", share_embeddings_and_output_weights=True)
        self.model = DistributedDataParallel(config, DistributedDataParallelConfig(**CPU_DDP), model)
        settings = OptimizerConfig(
            optimizer="adam", lr=0.01, min_lr=0.0, weight_decay=0.1, use_distributed_optimizer=True, clip_grad=1.0
        )
        self.optimizer = get_megatron_optimizer(settings, [self.model])
        self.scheduler = OptimizerParamScheduler(
            self.optimizer, init_lr=0.0, max_lr=0.01, min_lr=0.0, lr_warmup_steps=2, lr_decay_steps=STEPS,
            lr_decay_style="WSD", start_wd=0.1, end_wd=0.1, wd_incr_steps=STEPS, wd_incr_style="constant",
            wsd_decay_steps=8, lr_wsd_decay_style="half_life",
        )  # fmt: skip

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        """Mean nats a token of ids [b, s + 1]."""
        x, y = ids[:, :-1], ids[:, 1:]
        mean: torch.Tensor = self.model(x, torch.arange(x.shape[1]).expand_as(x), None, labels=y).mean()
        return mean

    def step(self, ids: torch.Tensor) -> tuple[float, float]:
        """One step on this rank's part of the batch; returns its loss and the gradient norm before clipping."""
        from megatron.core.distributed import finalize_model_grads

        self.model.zero_grad_buffer()
        self.optimizer.zero_grad()
        loss = self.loss(ids)
        loss.backward()
        finalize_model_grads([self.model])
        _updated, grad_norm, _zeros = self.optimizer.step()
        self.scheduler.step(1)
        return float(loss.detach()), float(grad_norm)


def main() -> None:
    """Trains a small model on arithmetic sequences."""
    from megatron.core import parallel_state

    torch.distributed.init_process_group("gloo")
    parallel_state.initialize_model_parallel()
    torch.manual_seed(1)
    training = Training(width=MUP.width, depth=MUP.depth, heads=MUP.width // MUP.head_dim)
    rank = torch.distributed.get_rank()
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(1000 * step + rank)
        first, stride = (torch.randint(1, VOCAB, (BATCH, 1), generator=generator) for _ in range(2))
        loss, grad_norm = training.step((first + stride % 7 * torch.arange(SEQ + 1)) % VOCAB)
        if rank == 0:
            rates = sorted({round(group["lr"], 6) for group in training.optimizer.param_groups})
            print(f"step {step} loss {loss:.4f} grad_norm {grad_norm:.4f} next lr {rates}")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    with megatron_patches.apply(mup=MUP, wsd=HalfLife(half_life_steps=4)):
        main()
