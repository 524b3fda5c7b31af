"""The engine in this process: in what precision gradients add up."""

from functools import reduce

import numpy as np
import torch

from recipe.batch import MicroBatch, micro_batch, model_inputs
from tests.parity import SEQ, VOCAB
from tests.recipe.runs import engine_alone

NUM_MICRO_BATCHES = 5


def gradients(chunk: torch.nn.Module, batches: list[MicroBatch]) -> dict[str, torch.Tensor]:
    chunk.zero_grad()
    for batch in batches:
        chunk(**model_inputs(batch)).backward()
    return {name: parameter.grad for name, parameter in chunk.named_parameters()}


def test_gradients_of_a_bf16_model_add_up_in_fp32() -> None:
    tokens = np.random.default_rng(1).integers(0, VOCAB, (NUM_MICRO_BATCHES, 1, SEQ + 1))
    with engine_alone({"precision": "bf16"}) as engine:
        chunk = engine.chunks[0]
        assert {parameter.dtype for parameter in chunk.parameters()} == {torch.bfloat16}
        batches = [micro_batch(rows, np.ones((1, SEQ), np.float32)) for rows in tokens]
        each = [gradients(chunk, [batch]) for batch in batches]
        together = gradients(chunk, batches)
    for name, gradient in together.items():
        assert gradient.dtype == torch.float32, name
        assert torch.equal(gradient, reduce(torch.add, [one[name] for one in each])), name
        assert (gradient.bfloat16().float() != gradient).any(), name  # bf16 would have lost something
