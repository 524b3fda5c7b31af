"""The head and its cross-entropy in one, over chunks of tokens: full logits never exist."""
