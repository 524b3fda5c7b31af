"""The patched GPTModel against the one-file reference: logits, gradients, ten AdamW steps, for every parametrisation."""

import pytest
import torch

from megatron_patches.mup.groups import parameter_groups
from megatron_patches.mup.rules import PARAMETRIZATIONS, Mup
from tests.megatron_patches.harness import build, tokens
from tests.reference import llama

LAYERS, HIDDEN, HEADS = 4, 64, 4
WD, EPS, BETAS = 0.1, 1e-8, (0.9, 0.95)


def mup_of(kind: str, alpha: float = 1.0) -> Mup:
    return Mup(kind, base_width=32, width=HIDDEN, base_depth=2, depth=LAYERS, scale_emb=12, scale_depth=1.4, init_std=0.1,
               alpha=alpha, head_dim=HIDDEN // HEADS)  # fmt: skip


def plain(model, shape: llama.Shape) -> llama.Weights:
    """Megatron-Core's weights in the reference's layout: [q… k v] by query group, [gate; up]."""
    out, d, per = {}, shape.head_dim, shape.heads // shape.kv_heads
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            continue
        value = value.clone()
        parts = name.split(".")
        layer = f"layers.{parts[2]}." if parts[:2] == ["decoder", "layers"] else ""
        if "linear_qkv" in name:
            by_group = value.view(shape.kv_heads, per + 2, d, shape.hidden)
            out[layer + "q"] = by_group[:, :per].reshape(-1, shape.hidden)
            out[layer + "k"], out[layer + "v"] = (by_group[:, per + i].reshape(-1, shape.hidden) for i in (0, 1))
        elif "linear_fc1" in name:
            out[layer + "gate"], out[layer + "up"] = value.chunk(2)
        else:
            ours = {"linear_proj": "o", "linear_fc2": "down", "input_layernorm": "attn_norm", "pre_mlp_layernorm": "mlp_norm",
                    "word_embeddings": "embedding", "final_layernorm": "final_norm", "output_layer": "head"}  # fmt: skip
            out[layer + ours[parts[-2]]] = value
    return out


def gradients_of(model) -> dict[str, torch.Tensor]:
    return {name: param.grad for name, param in model.named_parameters()}


@pytest.mark.parametrize(("tied", "groups"), [(True, 2), (False, 2), (True, 4), (False, 1)])
@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
def test_agrees_with_reference(cpu, kind: str, tied: bool, groups: int) -> None:
    alpha = 0.5 if (kind, tied, groups) == ("completep", True, 4) else 1.0
    mup = mup_of(kind, alpha)
    shape = llama.Shape(LAYERS, HIDDEN, HIDDEN * 5 // 2, HEADS, groups, 96, tied)
    scale = llama.scaling(kind, shape, base_width=32, base_layers=2, scale_emb=12, scale_depth=1.4, alpha=alpha)
    model = build(mup, tied=tied, groups=groups)
    lr = 0.001 if kind == "standard" else 0.01  # an lr that each can train with: chaos would amplify rounding
    weights, state = plain(model, shape), {}
    optimizer = torch.optim.AdamW(parameter_groups(model, mup, lr, WD, eps=EPS), betas=BETAS)

    x, y = tokens(0)
    position = torch.arange(x.shape[1]).expand_as(x)
    torch.testing.assert_close(model(x, position, None), llama.forward(weights, shape, scale, x), rtol=1e-5, atol=1e-5)
    for step in range(1, 11):
        x, y = tokens(step)
        value = model(x, position, None, labels=y).mean()
        optimizer.zero_grad()
        value.backward()
        expected, grads = llama.gradients(weights, shape, scale, x, y)
        assert float(value.detach()) == pytest.approx(expected, rel=1e-5)
        if step == 1:
            compare_gradients(model, shape, grads)
        optimizer.step()
        weights = llama.adamw(weights, grads, state, step, scale, lr=lr, wd=WD, eps=EPS, betas=BETAS)


def compare_gradients(model, shape: llama.Shape, grads: llama.Weights) -> None:
    values = {name: param.detach().clone() for name, param in model.named_parameters()}
    with torch.no_grad():
        for _, param in model.named_parameters():
            param.copy_(param.grad)
        ours = plain(model, shape)
        for name, param in model.named_parameters():
            param.copy_(values[name])
    for name, grad in grads.items():
        torch.testing.assert_close(
            ours[name], grad, rtol=1e-5, atol=1e-5 * float(grad.abs().max()), msg=lambda m, n=name: f"{n}: {m}"
        )
