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

STEPS, DECAY_STEPS, SEQ, BATCH, VOCAB = 20, 8, 64, 8, 256


def main() -> list[float]:
    """Trains a small model; returns the losses."""
    torch.manual_seed(1)
    from megatron.core import parallel_state
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler
    from megatron.core.transformer.transformer_config import TransformerConfig

    torch.distributed.init_process_group("gloo")
    parallel_state.initialize_model_parallel()
    config = TransformerConfig(
        num_layers=2,
        hidden_size=128,
        num_attention_heads=4,
        num_query_groups=2,
        ffn_hidden_size=320,
        gated_linear_unit=True,
        activation_func=F.silu,
        add_bias_linear=False,
        normalization="RMSNorm",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        **CPU_CONFIG,
    )
    spec = get_gpt_layer_local_spec(normalization="RMSNorm")
    model = GPTModel(config, spec, VOCAB, SEQ, position_embedding_type="rope", share_embeddings_and_output_weights=True)
    ddp = DistributedDataParallel(config, DistributedDataParallelConfig(**CPU_DDP), model)
    optimizer = get_megatron_optimizer(
        OptimizerConfig(optimizer="adam", lr=0.01, min_lr=0.0, weight_decay=0.1, use_distributed_optimizer=True, clip_grad=0.0),
        [ddp],
    )
    scheduler = OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=0.01,
        min_lr=0.0,
        lr_warmup_steps=2,
        lr_decay_steps=STEPS,
        lr_decay_style="WSD",
        start_wd=0.1,
        end_wd=0.1,
        wd_incr_steps=STEPS,
        wd_incr_style="constant",
        wsd_decay_steps=DECAY_STEPS,
        lr_wsd_decay_style="half_life",
    )
    rank, losses = torch.distributed.get_rank(), []
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(1000 * step + rank)
        first, stride = (torch.randint(1, VOCAB, (BATCH, 1), generator=generator) for _ in range(2))
        ids = (first + stride % 7 * torch.arange(SEQ + 1)) % VOCAB
        ddp.zero_grad_buffer()
        optimizer.zero_grad()
        loss = ddp(ids[:, :-1], torch.arange(SEQ).expand(BATCH, SEQ), None, labels=ids[:, 1:]).mean()
        loss.backward()
        finalize_model_grads([ddp])
        optimizer.step()
        scheduler.step(1)
        losses.append(float(loss.detach()))
        if rank == 0:
            print(f"step {step} loss {losses[-1]:.4f} lr {sorted({round(g['lr'], 6) for g in optimizer.param_groups})}")
    torch.distributed.destroy_process_group()
    return losses


if __name__ == "__main__":
    mup = Mup("minicpm", base_width=64, width=128, depth=2, scale_emb=12, scale_depth=1.4, init_std=0.1, head_dim=32)
    with megatron_patches.apply(mup=mup, wsd=HalfLife(half_life_steps=4)):
        main()
