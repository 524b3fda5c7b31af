"""The engines the planner knows: this project's own, and those that the published runs were made with.

Families of published runs differ by these values alone, not by a factor fitted per family. But the values aren't all
independent of those runs: several were set by hand while looking at their errors (launch/plan/README.md lists them).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from launch.plan.errors import PlanError
from launch.plan.shapes import Engine
from megatron_patches.loss import CHUNK_BYTES

if TYPE_CHECKING:
    from recipe.config import RunConfig

WINDTUNNEL = Engine(
    name="windtunnel",
    mlp_bytes=10,  # Megatron-Core's local spec: both inputs, SiLU's output, the linear half shifted by its offset, the product
    rotary_copies=True,
    masked_context=True,  # megatron_patches/attention/core.py
    fresh_grads=True,
    persists_small=True,
    fused_elementwise=False,
    logit_bytes=6.0,  # traffic of the head: bf16 logits and an fp32 copy that becomes the gradient in place
    loss_chunk_bytes=CHUNK_BYTES["cuda"],
    waiting_grad_bytes=4,  # recipe/model.py: grad_dtype is fp32
    overlap_dp_frac=0.0,  # gradients are reduced at the flush (DeepSpeed's coalesce_grad_reduction)
    bucket_bytes=2e9,  # DeepSpeed reduce_bucket_size 5e8 elements, alive during the flush only
    wire_bytes=2,  # communication_data_type defaults to bf16 there
    flush_bytes=6,  # DeepSpeed's coalesced flush: the bucket's fp32 gradients flattened (4) and in bf16 on the wire (2)
    max_zero_with_pp=2,  # PP × ZeRO-3 hangs; refused
)


def for_recipe(engine: Engine, config: "RunConfig", *, on_cpu: bool = False) -> Engine:
    """The engine as a recipe has it: its precision, and whether head and loss go by chunks (unless forced, they do)."""
    if config.backends.cross_entropy not in (None, "chunked"):
        engine = replace(engine, loss_chunk_bytes=0.0)
    return for_precision(engine, precision=config.precision, on_cpu=on_cpu)


def for_precision(engine: Engine, *, precision: str, on_cpu: bool = False) -> Engine:
    """The engine in full precision, or with torch's CPU kernels: their RMSNorm keeps fp32 copies, a GPU's only its input."""
    if on_cpu and engine.loss_chunk_bytes:
        engine = replace(engine, loss_chunk_bytes=CHUNK_BYTES["cpu"])
    if precision == "fp32":
        return replace(
            engine,
            value_bytes=4,
            weight_bytes=4,
            logit_bytes=4.0 if engine.flush_bytes else 8.0,
            norm_bytes=12 if on_cpu else 8,
        )
    return replace(engine, norm_bytes=10) if on_cpu else engine


MEGATRON = Engine(
    name="megatron",
    zero_stages=(1,),  # --use-distributed-optimizer shards optimizer states only
    logit_bytes=8.0,  # fused vocabulary-parallel cross entropy works in place
    overlap_dp_frac=0.9,  # --overlap-grad-reduce --overlap-param-gather
    overlap_tp_frac=0.6,  # --tp-comm-overlap, bulk and pipelined
    overlap_pp=True,
    bucket_grows=True,
    fused_attention=True,
    fused_accumulate=True,
)

MEGATRON_2022 = Engine(  # arXiv 2205.05198: selective recomputation and sequence parallelism, before flash attention
    name="megatron-2022",
    zero_stages=(0,),
    scatters_messages=True,  # as in 2021; under sequence parallelism messages are cut anyway
    flash=False,
    logit_bytes=12.0,
    overlap_tp_frac=0.15,  # only the backward gather overlaps
    overlap_pp=False,
    dropout=True,
    fused_accumulate=True,
)

MEGATRON_2021 = Engine(  # arXiv 2104.04473: no sequence parallelism, scatter/gather between stages
    name="megatron-2021",
    zero_stages=(0,),
    scatters_messages=True,
    flash=False,
    logit_bytes=12.0,
    dropout=True,
    fused_accumulate=True,
)

NANOTRON = Engine(
    name="nanotron",
    mlp_bytes=8,  # SiLU's output and the product are kept
    rotary_copies=True,
    zero_stages=(0, 1),
    fused_elementwise=False,
    logit_bytes=18.0,  # its sharded cross entropy: bf16 logits, fp32 copy, exponentials, softmax, gradient
    ddp_grad_bytes=2,  # DDP's bf16 buckets beside .grad, beside the fp32 accumulator
    overlap_dp_frac=0.5,  # DDP hooks during the last backward; ZeRO-1's scatter and gather are not overlapped
    bucket_bytes=50e6,  # ddp_bucket_cap_mb = 25 of bf16 parameters, reduced in fp32
    balance_head=True,
)

FSDP = Engine(  # PyTorch FSDP over fp32 shards, flash-attn's kernels (lit-gpt)
    name="fsdp",
    zero_stages=(2, 3),
    weight_bytes=4,
    has_master=False,
    shards_grads=True,
    fused_elementwise=False,
    logit_bytes=4.0,  # flash-attn's fused cross entropy: bf16 logits and their gradient
    overlap_dp_frac=0.9,
)

LLM_FOUNDRY = replace(FSDP, name="llm-foundry", attention_frac=0.55)  # its benchmarks ran the Triton kernel (attn_impl)

TORCHTITAN = Engine(  # FSDP2 and torch.compile of each block
    name="torchtitan",
    zero_stages=(2, 3),
    weight_bytes=4,
    has_master=False,
    shards_grads=True,
    logit_bytes=12.0,
    overlap_dp_frac=0.9,
    overlap_tp_frac=0.2,
    selective="op",
)

DEEPSPEED = Engine(name="deepspeed", shards_grads=True, overlap_dp_frac=0.7, bucket_bytes=2e9)

ENGINES = {
    engine.name: engine
    for engine in (WINDTUNNEL, MEGATRON, MEGATRON_2022, MEGATRON_2021, NANOTRON, FSDP, LLM_FOUNDRY, TORCHTITAN, DEEPSPEED)
}


def engine_named(name: str) -> Engine:
    """
    Raises:
        PlanError: unknown; all names are in the message.
    """
    if name not in ENGINES:
        raise PlanError(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name]
