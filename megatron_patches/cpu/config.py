"""The TransformerConfig fields that a machine without CUDA needs. No torch."""

from megatron_patches.patch import Patch, Rung

CPU_CONFIG: dict[str, bool] = {
    "use_cpu_initialization": True,
    "bias_dropout_fusion": False,  # the fused forms compile or call CUDA kernels
    "masked_softmax_fusion": False,
    "bias_activation_fusion": False,
    "gradient_accumulation_fusion": False,
    "persist_layer_norm": False,
    "apply_rope_fusion": False,
    "batch_p2p_comm": False,  # gloo has no coalesced sends
}

PATCH = Patch(
    name="cpu/config",
    target="megatron.core.transformer.transformer_config:TransformerConfig.use_cpu_initialization",
    rung=Rung.CONFIG,
    fingerprints={"0.16.1": "3a5621ce2035", "0.19.2": "3a5621ce2035"},
    why="fusions off, weights built on the CPU, plain point-to-point: " + ", ".join(CPU_CONFIG),
    retires_when="megatron-core's defaults follow the device",
    watch=("megatron.core.tensor_parallel.layers:_initialize_affine_weight_cpu",),
)
