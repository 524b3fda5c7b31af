"""Megatron-Core alone, with our muP and WSD: its own DDP, distributed optimizer and scheduler; no DeepSpeed, no recipe.

torchrun --nproc_per_node 2 megatron_patches/example_megatron_only.py
"""

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler
from megatron.core.transformer.transformer_config import TransformerConfig

import megatron_patches
from megatron_patches.cpu.config import CPU_CONFIG
from megatron_patches.cpu.optimizer import CPU_DDP
from megatron_patches.mup.rules import Mup
from megatron_patches.wsd.half_life import HalfLife

MUP = Mup("minicpm", base_width=64, width=128, depth=2, scale_emb=12, scale_depth=1.4, init_std=0.1, head_dim=32)


class Training:
    """Nothing here knows of muP: `apply(mup=…, wsd=…)` is in force, and upstream's classes do the rest."""

    def __init__(self, *, width: int, depth: int, heads: int) -> None:
        config = TransformerConfig(
            num_layers=depth, hidden_size=width, num_attention_heads=heads, num_query_groups=heads // 2, add_bias_linear=False,
            normalization="RMSNorm", gated_linear_unit=True, hidden_dropout=0.0, attention_dropout=0.0, **CPU_CONFIG,
        )  # fmt: skip
        spec = get_gpt_layer_local_spec(normalization="RMSNorm")
        model = GPTModel(config, spec, 256, 64, position_embedding_type="rope", share_embeddings_and_output_weights=True)
        self.model = DistributedDataParallel(config, DistributedDataParallelConfig(**CPU_DDP), model)
        settings = OptimizerConfig(lr=0.01, weight_decay=0.1, clip_grad=0.5, use_distributed_optimizer=True)
        self.optimizer = get_megatron_optimizer(settings, [self.model])
        self.scheduler = OptimizerParamScheduler(
            self.optimizer, init_lr=0.0, max_lr=0.01, min_lr=0.0, lr_warmup_steps=2, lr_decay_steps=20, lr_decay_style="WSD",
            wsd_decay_steps=8, lr_wsd_decay_style="half_life",
            start_wd=0.1, end_wd=0.1, wd_incr_steps=20, wd_incr_style="constant",
        )  # fmt: skip

    def step(self, ids: torch.Tensor) -> tuple[float, float]:
        """One step on this rank's ids [b, s + 1]; returns the loss and the gradient norm before clipping."""
        self.model.zero_grad_buffer()
        self.optimizer.zero_grad()
        position = torch.arange(ids.shape[1] - 1).expand(len(ids), -1)
        loss = self.model(ids[:, :-1], position, None, labels=ids[:, 1:]).mean()
        loss.backward()
        finalize_model_grads([self.model])
        _updated, grad_norm, _zeros = self.optimizer.step()
        self.scheduler.step(1)
        return float(loss.detach()), float(grad_norm)


if __name__ == "__main__":
    with megatron_patches.apply(mup=MUP, wsd=HalfLife(half_life_steps=4)):
        torch.distributed.init_process_group("gloo")
        parallel_state.initialize_model_parallel()
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        torch.manual_seed(1)  # the same weights and rows on each rank, which then takes its own
        training = Training(width=MUP.width, depth=MUP.depth, heads=4)
        for number in range(20):
            ids = (torch.randint(256, (16, 1)) + torch.randint(1, 8, (16, 1)) * torch.arange(65)) % 256
            loss, grad_norm = training.step(ids[rank::size])
            rates = sorted({round(group["lr"], 6) for group in training.optimizer.param_groups})
            if rank == 0:
                print(f"step {number} loss {loss:.4f} grad_norm {grad_norm:.4f} next lr {rates}")
