"""Megatron-Core's model and pipeline schedule under DeepSpeed's ZeRO; read `topology.py` first."""
