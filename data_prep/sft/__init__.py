"""Instruction data: records (prompt/response, conversations) -> varied prompts -> chat template -> documents with a mask."""
