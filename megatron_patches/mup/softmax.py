"""1/d attention through `TransformerConfig.softmax_scale`."""

from megatron_patches.patch import Patch, Rung

PATCH = Patch(
    name="mup/softmax",
    target="megatron.core.transformer.transformer_config:TransformerConfig.softmax_scale",
    rung=Rung.CONFIG,
    fingerprints={"0.16.1": "4e7cf139f4ab", "0.19.2": "4e7cf139f4ab"},
    why="tensor_programs, completep and native scale attention by 1/d; the field does that",
    retires_when="never: it is upstream's own field",
    watch=("megatron.core.transformer.dot_product_attention:DotProductAttention.__init__",),
)
