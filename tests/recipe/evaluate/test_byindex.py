"""Loss by token index of a model whose loss is the report's law, and of one that no law fits."""

import numpy as np
import pytest
import torch

from recipe.errors import RecipeError
from recipe.evaluate.byindex import loss_curve, text_windows
from tests.recipe.export.conftest import texts, tokenizer  # noqa: F401 - fixtures


def by_law(tokens: torch.Tensor) -> torch.Tensor:
    """Logits over two ids, of which 0 costs b + (t/c)^a nats with the report's constants."""
    index = torch.arange(1, tokens.shape[1] + 1, dtype=torch.float64)
    share = torch.exp(-(1.772 + (index / 32.84) ** -0.575))
    return torch.stack([share.log(), (1 - share).log()], dim=-1).expand(len(tokens), -1, -1)


def test_the_reports_constants_are_recovered_from_a_model() -> None:
    curve = loss_curve(by_law, np.zeros((3, 257), dtype=np.int64))
    assert curve["num_windows"] == 3
    assert curve["index"][:2] == [1, 2]
    assert curve["fit"]["a"] == pytest.approx(-0.575, rel=1e-3)
    assert curve["fit"]["b"] == pytest.approx(1.772, rel=1e-3)
    assert curve["fit"]["c"] == pytest.approx(32.84, rel=1e-3)


def test_a_curve_without_a_law_is_kept_with_the_reason() -> None:
    curve = loss_curve(by_law, np.zeros((3, 4), dtype=np.int64))
    assert curve["fit"] is None
    assert "at least 5" in curve["why"]
    assert len(curve["loss_nats"]) == 3


def test_a_text_file_becomes_windows(tokenizer, tmp_path) -> None:  # noqa: F811
    (tmp_path / "text.txt").write_text("some words of a text, and more of them\n" * 30)
    windows = text_windows(tmp_path / "text.txt", tokenizer, seq_length_tokens=16)
    assert windows.shape[1] == 17
    assert (windows[0, -1], windows[0, 0]) == (windows[1, 0], tokenizer.encode("some words")[0])
    with pytest.raises(RecipeError, match="fewer than one context of 100000"):
        text_windows(tmp_path / "text.txt", tokenizer, seq_length_tokens=100_000)
