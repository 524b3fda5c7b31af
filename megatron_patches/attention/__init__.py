"""torch's scaled_dot_product_attention as Megatron-Core's core attention."""
