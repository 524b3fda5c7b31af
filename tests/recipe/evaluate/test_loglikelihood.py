"""Shared contexts give the scores that each continuation has alone."""

import pytest
import torch

from recipe.evaluate.loglikelihood import TaskError, log_likelihoods, make_rows
from recipe.evaluate.scorers import HuggingFaceScorer


@pytest.fixture(scope="module")
def scorer() -> HuggingFaceScorer:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=50, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, **shape)
    return HuggingFaceScorer(LlamaForCausalLM(config))


def pairs() -> list[tuple[list[int], list[int]]]:
    torch.manual_seed(1)
    contexts = [torch.randint(50, (length,)).tolist() for length in (1, 5, 17, 60)]
    tails = [torch.randint(50, (length,)).tolist() for length in (1, 1, 2, 6, 9)]
    return [(context, tail) for context in contexts for tail in tails]


def alone(scorer: HuggingFaceScorer, context: list[int], tail: list[int]) -> tuple[float, bool]:
    row = (context + tail)[-65:]
    with torch.inference_mode():
        logits = scorer.model(torch.tensor([row[:-1]])).logits[0, -len(tail) :].float()
    chosen = logits.log_softmax(-1)[torch.arange(len(tail)), torch.tensor(tail)]
    return float(chosen.sum()), bool((logits.argmax(-1) == torch.tensor(tail)).all())


@pytest.mark.parametrize("trees", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 256])
def test_scores_are_those_of_each_alone(scorer: HuggingFaceScorer, trees: bool, batch_tokens: int, monkeypatch) -> None:
    monkeypatch.setattr(HuggingFaceScorer, "takes_trees", trees)
    found = log_likelihoods(scorer, pairs(), max_tokens=64, batch_tokens=batch_tokens)
    for (context, tail), (value, greedy) in zip(pairs(), found, strict=True):
        expected, is_greedy = alone(scorer, context, tail)
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == is_greedy


def test_work_is_shared() -> None:
    several = [([1, 2, 3], [token]) for token in range(4)] + [([1, 2, 3], [7, token]) for token in range(4)]
    assert len(make_rows(several, max_tokens=64, trees=True)) == 1
    assert len(make_rows(several, max_tokens=64, trees=False)) == 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TaskError, match="context of 4"):
        make_rows([([1], [1] * 5)], max_tokens=4, trees=True)
