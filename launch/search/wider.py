"""The proxy's model made wider, for runs that check what was found on it."""

from recipe.config import ModelConfig


def widened(model: ModelConfig, factor: int) -> dict[str, int]:
    """What changes in a model `factor` times as wide, of the same head size and depth."""
    return {key: factor * getattr(model, key) for key in ("hidden_size", "ffn_hidden_size", "num_heads", "num_kv_heads")}


def wider_overrides(model: ModelConfig, factor: int) -> list[str]:
    """The same as `key=value` of a recipe."""
    return [f"model.{key}={value}" for key, value in widened(model, factor).items()]
