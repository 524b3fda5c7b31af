"""Cached keys and values change nothing: decoding gives the logits of the whole row, for transformers and for Megatron."""

import pytest
import torch

from recipe.alone import build_alone
from recipe.config import RunConfig
from recipe.evaluate.live import all_logits
from recipe.evaluate.scorers import HuggingFaceScorer, MegatronScorer, Scorer
from tests.recipe.export.test_export import RECIPE


def transformers_model() -> Scorer:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return HuggingFaceScorer(LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, **shape)))


def megatron_model() -> Scorer:
    return MegatronScorer(build_alone(RunConfig.model_validate(RECIPE)), vocab_size=400)


@pytest.mark.parametrize("make", [transformers_model, megatron_model])
def test_decoding_with_a_cache_gives_the_whole_rows_logits(make) -> None:
    scorer = make()
    tokens = torch.randint(50, (3, 17), generator=torch.Generator().manual_seed(1))
    whole = all_logits(scorer)(tokens)
    decoder = scorer.decoder(num_rows=3, max_tokens=20)
    start = 0
    for size in (9, 1, 1, 4, 1, 1):  # a prompt, single tokens, and several at once
        logits = decoder.feed(tokens[:, start : start + size])
        start += size
        torch.testing.assert_close(logits, whole[:, start - 1], rtol=1e-4, atol=1e-5)
    assert start == tokens.shape[1]
