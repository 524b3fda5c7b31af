"""A run's tokenizer, held to the digest that the run was made with. No torch."""

from data_prep.tokenizer import Tokenizer, load_tokenizer
from recipe.errors import RunError
from recipe.resolve import ResolvedRun


def tokenizer_of(resolved: ResolvedRun) -> Tokenizer:
    """Raises `RunError` where it is missing or another one lies in its place."""
    if resolved.tokenizer_dir is None:
        raise RunError(f"run {resolved.config.name} has no tokenizer: it was resolved without data")
    tokenizer = load_tokenizer(resolved.tokenizer_dir)
    if resolved.tokenizer_sha256 not in (None, tokenizer.sha256):
        raise RunError(
            f"{tokenizer.path}: its digest {tokenizer.hash12} is not the run's, {str(resolved.tokenizer_sha256)[:12]}"
        )
    return tokenizer
