"""Head and loss in chunks: the same loss and gradients as logits and cross-entropy at once."""

import pytest
import torch
import torch.nn.functional as F

from megatron_patches.cpu.world import single_process_world
from megatron_patches.loss import chunked

N, H, ROWS, VOCAB = 200, 16, 128, 100  # 200 tokens are four chunks of 64


@pytest.fixture
def few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    single_process_world()
    monkeypatch.setitem(chunked.CHUNK_BYTES, "cpu", 64 * 4 * VOCAB)


def inputs(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    hidden, weight = (torch.randn(rows, H).to(dtype).requires_grad_() for rows in (N, ROWS))
    return hidden, weight, torch.randint(0, VOCAB, (N,)), (torch.rand(N) < 0.7).float()


def plain(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    logits = (hidden @ weight[:VOCAB].t()).float()
    return (F.cross_entropy(logits, labels, reduction="none") * mask).sum()


def summed(*tensors: torch.Tensor) -> torch.Tensor:
    return chunked.summed_loss(*tensors, num_rows=VOCAB, group=torch.distributed.group.WORLD)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.usefixtures("few_bytes")
def test_loss_and_gradients_are_those_of_all_logits(dtype: torch.dtype, rel: float) -> None:
    mine, theirs = inputs(dtype), inputs(dtype)
    ours, expected = summed(*mine), plain(*theirs)
    (ours * 0.3).backward()
    (expected * 0.3).backward()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(mine[:2], theirs[:2], strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad.float() - b.grad.float()).abs().max() <= rel * b.grad.float().abs().max()


@pytest.mark.usefixtures("few_bytes")
def test_rows_that_pad_and_tokens_that_do_not_count_get_no_gradient() -> None:
    hidden, weight, labels, mask = inputs(torch.float32)
    summed(hidden, weight, labels, mask).backward()
    assert weight.grad is not None
    assert hidden.grad is not None
    assert weight.grad[VOCAB:].abs().max() == 0
    assert hidden.grad[mask == 0].abs().max() == 0
    assert hidden.grad[mask == 1].abs().min(-1).values.max() > 0


@pytest.mark.usefixtures("few_bytes")
def test_without_gradients_nothing_is_kept() -> None:
    tensors = inputs(torch.float32)
    with torch.no_grad():
        assert not summed(*tensors).requires_grad
        assert summed(*tensors).item() == pytest.approx(plain(*tensors).item(), rel=1e-5)


@pytest.mark.usefixtures("few_bytes")
def test_no_more_than_a_chunk_of_logits_exists() -> None:
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.dim() == 2 and out.shape[1] in (VOCAB, ROWS):
                largest = max(largest, out.shape[0])
            return out

    tensors = inputs(torch.float32)
    with Watch():
        summed(*tensors).backward()
    assert 0 < largest <= 64
