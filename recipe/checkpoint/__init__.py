"""Checkpoints that any layout writes and any layout loads; `format.py` says what lies on disk."""
