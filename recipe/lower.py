"""A resolved run in upstream's words: TransformerConfig arguments, DeepSpeed's JSON, the muP and WSD objects. No torch.

What these return is written into the run directory and is what every rank uses; `windtunnel show --as …` prints it.
"""

from itertools import pairwise
from typing import Any

from megatron_patches.mup.rules import Mup, group_values
from megatron_patches.wsd.schedule import Decay, Schedule, Stage
from recipe.config import RunConfig
from recipe.resolve import ResolvedRun, budget_of


def mup_of(config: RunConfig) -> Mup:
    """The parametrisation at this recipe's width and depth."""
    mup, model = config.mup, config.model
    return Mup(
        parametrization=mup.parametrization,
        base_width=mup.dim_model_base,
        width=model.hidden_size,
        base_depth=mup.num_layers_base,
        depth=model.num_layers,
        scale_emb=mup.scale_emb,
        scale_depth=mup.scale_depth,
        init_std=mup.init_std,
        alpha=mup.alpha,
        head_dim=model.head_size,
        budget=budget_of(config),
    )


def mup_rows(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The table by role, with what the optimizer's groups hold at the peak."""
    optim, rows = config.optim, {}
    for role, rule in mup_of(config).table().items():
        at_peak = group_values(
            role, rule, optim.peak_lr, optim.weight_decay, eps=optim.eps, betas=optim.betas, decay_mode=optim.weight_decay_mode
        )
        rows[str(role)] = vars(rule) | {key: at_peak[key] for key in ("lr", "weight_decay", "eps", "betas")}
    return rows


def schedule_of(resolved: ResolvedRun) -> Schedule:
    """Learning rate over tokens, with each stage as long as its steps make it."""
    stages = []
    for config, stage in zip(resolved.config.stages, resolved.stages, strict=True):
        lr = config.lr
        decay = None
        if lr.shape not in ("constant", "hold"):
            decay = Decay(lr.shape, half_life_tokens=lr.half_life_tokens, floor_frac=lr.floor_frac)
        length = stage.end_tokens - stage.start_tokens
        stages.append(Stage(length, decay, rewarm_tokens=lr.rewarm_tokens, hold=lr.shape == "hold"))
    return Schedule.of_stages(stages, warmup_tokens=resolved.config.optim.warmup_tokens)


def schedule_rows(resolved: ResolvedRun) -> list[dict[str, Any]]:
    """The base learning rate from boundary to boundary: each stage, cut where the batch changes and where warming up ends.

    Returns:
        Rows of stage, first and last step, batch (sequences), tokens after the last step, learning rate of both steps.
    """
    schedule, peak_lr = schedule_of(resolved), resolved.config.optim.peak_lr
    rows = []
    for stage, planned in zip(resolved.stages, schedule.stages, strict=True):
        warm_tokens = planned.rewarm_tokens if stage.start_step else schedule.warmup_tokens
        steps = range(stage.start_step, stage.end_step)
        warm = sum(resolved.tokens_before(step) < stage.start_tokens + warm_tokens for step in steps)
        cuts = sorted({segment.first_step for segment in stage.segments} | {stage.start_step + warm, stage.end_step})
        for first, end in pairwise(cuts):
            tokens = [resolved.tokens_before(step + 1) for step in (first, end - 1)]
            first_lr, last_lr = (peak_lr * schedule.lr_mult_at(one) for one in tokens)
            rows.append(
                {"stage": stage.name, "first_step": first, "last_step": end - 1, "batch_seqs": resolved.batch_seqs_at(first),
                 "end_tokens": tokens[1], "first_lr": first_lr, "last_lr": last_lr}
            )  # fmt: skip
    return rows


def transformer_arguments(resolved: ResolvedRun) -> dict[str, Any]:
    """Keyword arguments of Megatron-Core's TransformerConfig that JSON can hold; dtypes and functions by name."""
    config, layout = resolved.config, resolved.layout
    model, mup = config.model, mup_of(config)
    dtype = "bfloat16" if config.precision == "bf16" else "float32"
    arguments: dict[str, Any] = {
        "num_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "ffn_hidden_size": model.ffn_hidden_size,
        "num_attention_heads": model.num_heads,
        "num_query_groups": model.num_kv_heads,
        "kv_channels": model.head_size,
        "normalization": "RMSNorm",
        "layernorm_epsilon": model.norm_eps,
        "gated_linear_unit": True,
        "activation_func": "silu",
        "add_bias_linear": False,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "softmax_scale": mup.softmax_scale,
        "params_dtype": dtype,
        "pipeline_dtype": dtype,
        "bf16": config.precision == "bf16",
        "tensor_model_parallel_size": layout.tp,
        "pipeline_model_parallel_size": layout.pp,
        "virtual_pipeline_model_parallel_size": layout.vp if layout.vp > 1 else None,
        "context_parallel_size": layout.cp,
        "sequence_parallel": layout.sp,
        # fusions of Megatron-Core that need its CUDA extensions; our backends stand in (megatron_patches/capabilities.py)
        "bias_dropout_fusion": False,
        "masked_softmax_fusion": False,
        "persist_layer_norm": False,
        "gradient_accumulation_fusion": False,
        "bias_activation_fusion": False,
        "apply_rope_fusion": False,
        "use_cpu_initialization": True,
        "perform_initialization": False,  # megatron_patches/mup/init.py draws every weight, the same in any layout
        "deallocate_pipeline_outputs": False,
        "batch_p2p_comm": False,
    }
    if layout.recompute == "full":
        arguments |= {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    if layout.recompute == "selective":
        arguments |= {"recompute_granularity": "selective", "recompute_modules": ["core_attn"]}
    if layout.vp == 1 and len(set(layout.layers_per_stage)) > 1:
        arguments["pipeline_model_parallel_layout"] = _pipeline_layout(layout.layers_per_stage)
    return arguments


def _pipeline_layout(layers: tuple[int, ...]) -> list[list[str]]:
    stages = [["decoder"] * number for number in layers]
    stages[0] = ["embedding", *stages[0]]
    stages[-1] = [*stages[-1], "loss"]
    return stages


def deepspeed_config(resolved: ResolvedRun) -> dict[str, Any]:
    """DeepSpeed's JSON. Megatron-Core's schedule accumulates, so DeepSpeed is told of one large micro batch.

    No `scheduler` block, ever: it would overwrite the learning rate of every parameter group (DeepSpeed issue 7713). No
    `data_types` block: with ZeRO-1 it selects an optimizer that can't coalesce reductions; gradients accumulate in fp32 by
    `param.grad_dtype` instead.
    """
    config, layout = resolved.config, resolved.layout
    partitions = layout.dp * layout.cp if layout.zero else 1
    zero: dict[str, Any] = {
        "stage": max(layout.zero, 1),  # stage 0: ZeRO-1 over a group of one (megatron_patches/zero/topology.py)
        "overlap_comm": False,
        "contiguous_gradients": False,
        "round_robin_gradients": False,
    }
    if layout.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    if layout.zero == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = False
    largest = max((segment.batch_seqs for stage in resolved.stages for segment in stage.segments), default=partitions)
    per_partition = max(1, largest // partitions)
    offload = {"zero_force_ds_cpu_optimizer": False} if layout.offload_optimizer else {}  # torch's AdamW steps host memory too
    return {
        "train_micro_batch_size_per_gpu": per_partition,
        "gradient_accumulation_steps": 1,
        "train_batch_size": per_partition * partitions,
        "gradient_clipping": config.optim.clip,
        "bf16": {"enabled": config.precision == "bf16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
        **offload,
    }
