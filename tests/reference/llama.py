"""A Llama-like model, its muP scaling and AdamW in plain torch, from the formulas alone.

Nothing here imports the project or Megatron-Core: agreement with it is evidence. Weights are kept in the plain layout
(q, k, v, gate and up apart). Sources: Llama (RMSNorm, rotary positions by halves, SwiGLU, grouped queries), the
parametrisations' tables (see `scaling`), AdamW (Loshchilov & Hutter 2019).
"""

from dataclasses import dataclass
from math import sqrt

import torch

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """Sizes of the model."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool
    eps: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


@dataclass(frozen=True)
class Scaling:
    """Forward multipliers and, per kind of parameter, (lr multiplier, wd multiplier, eps multiplier)."""

    embedding: float
    residual: float
    logits: float
    softmax: float
    optimizer: dict[str, tuple[float, float, float]]


def scaling(
    kind: str, shape: Shape, *, base_width: int, base_layers: int, scale_emb: float, scale_depth: float, alpha: float = 1.0
) -> Scaling:
    """The parametrisation's table, written out again."""
    n, deeper, d = shape.hidden / base_width, shape.layers / base_layers, shape.head_dim
    plain = {"embedding": (1, 1, 1), "head": (1, 1, 1), "matrix": (1, 1, 1), "gain": (1, 0, 1), "final_gain": (1, 0, 1)}
    if kind == "standard":
        return Scaling(1, 1, 1, d**-0.5, plain)
    if kind == "minicpm":  # Xmodel-2 report, Table 6
        return Scaling(scale_emb, scale_depth / sqrt(shape.layers), 1 / n, d**-0.5, plain | {"matrix": (1 / n, 1, 1)})
    if kind == "tensor_programs":  # arXiv 2203.03466, Table 8
        return Scaling(scale_emb, 1, 1 / n, 1 / d, plain | {"matrix": (1 / n, 1, 1)})
    if kind == "completep":  # arXiv 2505.01618, Table 1
        deep, eps = deeper ** (alpha - 1), 1 / (n * deeper**alpha)
        return Scaling(scale_emb, deeper**-alpha, 1 / n, 1 / d, plain | {"matrix": (deep / n, n, eps), "gain": (deep, 0, eps)})
    if kind == "native":  # megatron-core 0.19
        return Scaling(scale_emb, 1, 1 / n, 1 / d, plain | {"matrix": (1 / n, 1, 1 / n)})
    raise ValueError(kind)


def kind_of(name: str) -> str:
    """The optimizer kind of a weight."""
    last = name.split(".")[-1]
    return {"embedding": "embedding", "head": "head", "final_norm": "final_gain", "attn_norm": "gain", "mlp_norm": "gain"}.get(
        last, "matrix"
    )


def rms_norm(x: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * gain


def rotate(x: torch.Tensor, base: float) -> torch.Tensor:
    """Rotary positions: the pair (i, i + d/2) turns by position / base^(2i/d). x: [b, s, n, d]."""
    s, d = x.shape[1], x.shape[-1]
    angle = torch.tensor([[p * base ** (-2 * i / d) for i in range(d // 2)] for p in range(s)], dtype=torch.float32)
    c, t = angle.cos()[None, :, None], angle.sin()[None, :, None]
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return torch.cat([a * c - b * t, b * c + a * t], -1)


def forward(w: Weights, shape: Shape, scale: Scaling, tokens: torch.Tensor) -> torch.Tensor:
    """Logits [b, s, vocab] of tokens [b, s]."""
    x = w["embedding"][tokens] * scale.embedding
    for i in range(shape.layers):
        p = f"layers.{i}."
        x = x + scale.residual * attention(w, p, shape, scale, rms_norm(x, w[p + "attn_norm"], shape.eps))
        h = rms_norm(x, w[p + "mlp_norm"], shape.eps)
        gate = h @ w[p + "gate"].T
        x = x + scale.residual * ((gate * torch.sigmoid(gate) * (h @ w[p + "up"].T)) @ w[p + "down"].T)
    x = rms_norm(x, w["final_norm"], shape.eps)
    return x @ w["embedding" if shape.tied else "head"].T * scale.logits


def attention(w: Weights, p: str, shape: Shape, scale: Scaling, x: torch.Tensor) -> torch.Tensor:
    b, s, _ = x.shape
    q, k, v = (
        (x @ w[p + name].T).view(b, s, heads, shape.head_dim)
        for name, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads))
    )
    q, k = rotate(q, shape.rope_base), rotate(k, shape.rope_base)
    k, v = (t.repeat_interleave(shape.heads // shape.kv_heads, 2) for t in (k, v))
    scores = torch.einsum("bqnd,bknd->bnqk", q, k) * scale.softmax
    scores = scores.masked_fill(torch.ones(s, s, dtype=torch.bool).triu(1), float("-inf"))
    return torch.einsum("bnqk,bknd->bqnd", scores.softmax(-1), v).reshape(b, s, -1) @ w[p + "o"].T


def loss(w: Weights, shape: Shape, scale: Scaling, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean nats a token."""
    logits = forward(w, shape, scale, tokens)
    return (logits.logsumexp(-1) - logits.gather(-1, labels[..., None])[..., 0]).mean()


def gradients(w: Weights, shape: Shape, scale: Scaling, tokens: torch.Tensor, labels: torch.Tensor) -> tuple[float, Weights]:
    """Loss and its gradient for every weight."""
    leaves = {name: value.detach().requires_grad_() for name, value in w.items()}
    value = loss(leaves, shape, scale, tokens, labels)
    return float(value.detach()), dict(zip(leaves, torch.autograd.grad(value, list(leaves.values()))))


def adamw(
    w: Weights,
    grads: Weights,
    state: dict[str, tuple[torch.Tensor, torch.Tensor]],
    step: int,
    scale: Scaling,
    *,
    lr: float,
    wd: float,
    eps: float,
    betas: tuple[float, float],
) -> Weights:
    """One update (step counts from 1), with decay coupled to the lr."""
    out = {}
    for name, value in w.items():
        lr_mult, wd_mult, eps_mult = scale.optimizer[kind_of(name)]
        m, v = state.get(name, (torch.zeros_like(value), torch.zeros_like(value)))
        m = betas[0] * m + (1 - betas[0]) * grads[name]
        v = betas[1] * v + (1 - betas[1]) * grads[name] ** 2
        state[name] = (m, v)
        m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
        out[name] = value * (1 - lr * lr_mult * wd * wd_mult) - lr * lr_mult * m_hat / (v_hat.sqrt() + eps * eps_mult)
    return out
