"""The head and its cross-entropy in one, over chunks of tokens: full logits never exist."""

CHUNK_BYTES = {"cpu": 128 << 20, "cuda": 256 << 20}  # of fp32 logits: each chunk reads and writes the whole weight gradient
