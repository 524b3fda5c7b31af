"""WSD: the pure schedule in tokens, and the same decay in Megatron-Core's own scheduler."""
