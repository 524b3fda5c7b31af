"""Text to tokenizer, ``.bin/.idx`` shards and manifests: offline, and without torch."""
