"""The CPU platform: Megatron-Core's GPTModel, schedules and recomputation on CPU with gloo."""
