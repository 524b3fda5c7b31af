"""The muP table as data: role -> (init std, lr, weight decay, Adam eps and betas, forward multiplier).

Everything that scales with width, depth, batch or duration reads this file: model, initialisation, optimizer groups, export,
documentation and the audit. Nothing else repeats a formula.

    Mup("minicpm", width=1536, base_width=256, depth=48, scale_emb=12, scale_depth=1.4, init_std=0.1).table()

`m_N = width / base_width`, `m_L = depth / base_depth`; all rules are for Adam. Sources: `minicpm` Xmodel-2 report
(arXiv 2412.19638) Table 6, MiniCPM (2404.06395); `tensor_programs` Tensor Programs V (2203.03466) Table 8;
`completep` CompleteP (2505.01618) Table 1, with alpha = 1/2 depth-muP (2310.02244); `native` megatron-core 0.19;
batch and duration, on top of each, Complete(d)P (2512.22382).
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from math import sqrt
from typing import Any

from megatron_patches.errors import PatchError


class Role(StrEnum):
    """What a parameter does in the model; scaling is decided by this, never by its number of dimensions."""

    INPUT_EMBEDDING = "input_embedding"
    TIED_EMBEDDING = "tied_embedding"
    HIDDEN_QKV = "hidden_qkv"
    HIDDEN_PROJ = "hidden_proj"
    HIDDEN_FC1 = "hidden_fc1"
    HIDDEN_FC2 = "hidden_fc2"
    OUTPUT_HEAD = "output_head"
    NORM_GAIN = "norm_gain"
    FINAL_NORM_GAIN = "final_norm_gain"
    BIAS = "bias"


HIDDEN = (Role.HIDDEN_QKV, Role.HIDDEN_PROJ, Role.HIDDEN_FC1, Role.HIDDEN_FC2)
RESIDUAL_WRITERS = (Role.HIDDEN_PROJ, Role.HIDDEN_FC2)  # their output is added to the residual stream
VECTORS = (Role.NORM_GAIN, Role.FINAL_NORM_GAIN, Role.BIAS)
DECAY_MODES = ("coupled", "independent")
PARAMETRIZATIONS = ("standard", "minicpm", "tensor_programs", "completep", "native")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How one role scales.

    Attributes:
        init_std: Standard deviation of the initial values; 0 for gains (which start at 1) and biases (at 0).
        lr_mult: Learning rate ÷ base learning rate.
        wd_mult: Weight decay ÷ base weight decay, before the optimizer multiplies it by the learning rate.
        eps_mult: Adam epsilon ÷ base epsilon.
        forward_mult: Factor on what the parameter contributes to the forward pass.
        step_mult: Share of the training that a step is ÷ that of the base training; Adam's 1 − β and independent
            weight decay are multiplied by it.
    """

    init_std: float
    lr_mult: float = 1.0
    wd_mult: float = 1.0
    eps_mult: float = 1.0
    forward_mult: float = 1.0
    step_mult: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How base hyperparameters move with batch and duration: r = batch_mult / duration_mult.

    Complete(d)P (arXiv 2512.22382), from the SDE that Adam follows (arXiv 2205.10287): a step of rate η advances its
    time by η² times the batch, so that r is a step's share of the whole training, against that of the base training.
    `Mup.table` multiplies every role by it alike.

    Attributes:
        batch_mult: Tokens in a step ÷ tokens in a step where the hyperparameters were found.
        duration_mult: Tokens in the training ÷ tokens in that training.
    """

    batch_mult: float = 1.0
    duration_mult: float = 1.0

    def __post_init__(self) -> None:
        for name in ("batch_mult", "duration_mult"):
            if not getattr(self, name) > 0:
                raise PatchError(f"budget.{name}={getattr(self, name)} must be greater than 0")

    @property
    def step_mult(self) -> float:
        """r; Adam's 1 − β follow it, so that their memory keeps its share of the training."""
        return self.batch_mult / self.duration_mult

    @property
    def lr_mult(self) -> float:
        """Factor on the learning rate."""
        return sqrt(self.step_mult)

    @property
    def wd_mult(self) -> float:
        """Factor on coupled weight decay: lr × wd × steps, what a training shrinks in all, stays."""
        return sqrt(self.step_mult)

    @property
    def eps_mult(self) -> float:
        """Factor on Adam's epsilon: it follows the gradients' noise."""
        return 1 / sqrt(self.step_mult)


@dataclass(frozen=True)
class Mup:
    """One parametrisation at one width and depth.

    `scale_emb` is read by all but `standard`, `scale_depth` by `minicpm`, `alpha` by `completep`, `base_depth` by
    `completep`, the head sizes by those with 1/d attention (`tensor_programs`, `completep`, `native`).

    Attributes:
        base_width: Hidden size at which the hyperparameters were found (`dim_model_base`).
        head_dim: Size of one attention head.
        base_head_dim: Head size whose 1/sqrt(d) attention is reproduced; None gives a plain 1/d.
        alpha: Depth exponent of `completep`, from 1/2 to 1.
        budget: Batch and duration, read by every parametrisation.
    """

    parametrization: str = "minicpm"
    base_width: int = 256
    width: int = 256
    base_depth: int = 4
    depth: int = 4
    scale_emb: float = 1.0
    scale_depth: float = 1.0
    init_std: float = 0.02
    alpha: float = 1.0
    head_dim: int = 64
    base_head_dim: int | None = None
    budget: Budget = Budget()

    def __post_init__(self) -> None:
        if self.parametrization not in PARAMETRIZATIONS:
            raise PatchError(f"mup.parametrization={self.parametrization!r} is unknown; one of: {', '.join(PARAMETRIZATIONS)}")
        for name in ("base_width", "width", "base_depth", "depth", "scale_emb", "scale_depth", "init_std", "head_dim"):
            if not getattr(self, name) > 0:
                raise PatchError(f"mup.{name}={getattr(self, name)} must be greater than 0")
        if not 0.5 <= self.alpha <= 1:
            raise PatchError(f"mup.alpha={self.alpha} must lie between 0.5 (depth-muP) and 1 (CompleteP)")

    @property
    def width_mult(self) -> float:
        """m_N: how many times wider than the base model."""
        return self.width / self.base_width

    @property
    def depth_mult(self) -> float:
        """m_L: how many times deeper than the base model."""
        return self.depth / self.base_depth

    @property
    def embedding_mult(self) -> float:
        """Factor on the embedding's output."""
        return 1.0 if self.parametrization == "standard" else self.scale_emb

    @property
    def residual_mult(self) -> float:
        """Factor on each attention and MLP output before it joins the residual stream."""
        if self.parametrization == "minicpm":
            return self.scale_depth / sqrt(self.depth)  # Table 6, "residual scaling"
        if self.parametrization == "completep":
            return self.depth_mult**-self.alpha
        return 1.0

    @property
    def logits_mult(self) -> float:
        """Factor on the logits (applied to the head's input)."""
        return 1.0 if self.parametrization == "standard" else 1 / self.width_mult

    @property
    def softmax_scale(self) -> float | None:
        """Factor on attention scores; None leaves upstream's 1/sqrt(head_dim)."""
        if self.parametrization in ("standard", "minicpm"):
            return None
        return (1.0 if self.base_head_dim is None else sqrt(self.base_head_dim)) / self.head_dim

    def table(self) -> dict[Role, Rule]:
        """Returns the rule of every role."""
        hidden, writer = self._hidden(), self._residual_writer()
        vector = Rule(init_std=0.0, wd_mult=0.0)
        in_block = Rule(init_std=0.0, wd_mult=0.0, lr_mult=self._depth_lr(), eps_mult=self._block_eps(width=False))
        embedding = Rule(init_std=self.init_std, forward_mult=self.embedding_mult)
        by_size = {
            Role.INPUT_EMBEDDING: embedding,
            # One matrix, two uses: its output is × embedding_mult on the way in and × logits_mult on the way out.
            # Vector-like (Tensor Programs V): neither lr nor std shrinks with width; see README, "measured".
            Role.TIED_EMBEDDING: embedding,
            Role.HIDDEN_QKV: hidden,
            Role.HIDDEN_PROJ: writer,
            Role.HIDDEN_FC1: hidden,
            Role.HIDDEN_FC2: writer,
            Role.OUTPUT_HEAD: Rule(init_std=self.init_std, forward_mult=self.logits_mult),
            Role.NORM_GAIN: in_block,
            Role.FINAL_NORM_GAIN: vector,
            Role.BIAS: in_block,
        }
        return {role: self._at_budget(rule) for role, rule in by_size.items()}

    def _at_budget(self, rule: Rule) -> Rule:
        """Batch and duration on top of width and depth."""
        budget = self.budget
        return replace(
            rule, lr_mult=rule.lr_mult * budget.lr_mult, wd_mult=rule.wd_mult * budget.wd_mult,
            eps_mult=rule.eps_mult * budget.eps_mult, step_mult=budget.step_mult,
        )  # fmt: skip

    def _hidden(self, *, init_div: float = 1.0, forward_mult: float = 1.0) -> Rule:
        """Rule of the matrices inside blocks."""
        m = 1.0 if self.parametrization == "standard" else self.width_mult
        return Rule(
            init_std=self.init_std / (sqrt(m) * init_div),
            lr_mult=self._depth_lr() / m,
            # lr × wd stays what it was at the base width (CompleteP Table 1), so the decay's time scale does too.
            wd_mult=m if self.parametrization == "completep" else 1.0,
            eps_mult=self._block_eps(width=True),
            forward_mult=forward_mult,
        )

    def _residual_writer(self) -> Rule:
        """Rule of the two projections into the residual stream."""
        deep_init = self.parametrization in ("standard", "native")  # GPT-2's 1/sqrt(2L)
        return self._hidden(init_div=sqrt(2 * self.depth) if deep_init else 1.0, forward_mult=self.residual_mult)

    def _depth_lr(self) -> float:
        return self.depth_mult ** (self.alpha - 1) if self.parametrization == "completep" else 1.0

    def _block_eps(self, *, width: bool) -> float:
        """Adam's eps inside blocks follows the gradients' size: CompleteP scales all of them, native the matrices."""
        if self.parametrization == "completep":
            return self.depth_mult**-self.alpha / self.width_mult
        return 1 / self.width_mult if self.parametrization == "native" and width else 1.0


def betas_at(step_mult: float, base: tuple[float, float]) -> tuple[float, float]:
    """Adam's betas where a step is `step_mult` times as large a share of the training as where `base` was found.

    Raises:
        PatchError: The step is so large that nothing would be remembered.
    """
    first, second = (beta + (1 - step_mult) * (1 - beta) for beta in base)
    if min(first, second) < 0:
        raise PatchError(f"a step {step_mult:g} times as large leaves betas {base} no memory: the rule ends before that")
    return first, second


def group_values(
    role: Role,
    rule: Rule,
    peak_lr: float,
    weight_decay: float,
    *,
    eps: float = 1e-8,
    betas: tuple[float, float] | None = None,
    decay_mode: str = "coupled",
) -> dict[str, Any]:
    """One role's optimizer settings; the audit compares live groups with exactly this."""
    if decay_mode not in DECAY_MODES:
        raise PatchError(f"decay_mode={decay_mode!r} is unknown; one of: {', '.join(DECAY_MODES)}")
    if betas is None and rule.step_mult != 1:
        raise PatchError(f"betas are needed: a step is {rule.step_mult:g} times as large by batch and duration; they follow")
    coupled = decay_mode == "coupled" or rule.wd_mult == 0
    wd_mult = rule.wd_mult if coupled else rule.step_mult / (rule.lr_mult * peak_lr)
    return {
        "role": str(role),
        "lr": peak_lr * rule.lr_mult,
        "max_lr": peak_lr * rule.lr_mult,
        "lr_mult": rule.lr_mult,
        "wd_mult": wd_mult,
        "weight_decay": weight_decay * wd_mult,
        "eps": eps * rule.eps_mult,
        **({} if betas is None else {"betas": betas_at(rule.step_mult, betas)}),
    }


# Order matters: the first pattern that matches the end of a name decides. Names are megatron-core's, with or
# without a wrapper's prefix; Transformer Engine keeps a norm's gain inside the linear layer that follows it.
_ROLE_BY_NAME: tuple[tuple[str, Role], ...] = (
    (r"final_layernorm\.(weight|bias)", Role.FINAL_NORM_GAIN),
    (r"layer_norm_weight|layernorm\.weight", Role.NORM_GAIN),
    (r"\.bias|layer_norm_bias", Role.BIAS),
    (r"embedding\.(word|position|tokentype)_embeddings\.weight", Role.INPUT_EMBEDDING),
    (r"output_layer\.weight", Role.OUTPUT_HEAD),
    (r"self_attention\.linear_qkv\.weight", Role.HIDDEN_QKV),
    (r"self_attention\.linear_proj\.weight", Role.HIDDEN_PROJ),
    (r"mlp\.linear_fc1\.weight", Role.HIDDEN_FC1),
    (r"mlp\.linear_fc2\.weight", Role.HIDDEN_FC2),
)


def role_of(name: str, *, tied: bool) -> Role:
    """Decides a parameter's role from its GPTModel name.

    Args:
        name: As `named_parameters()` gives it, with or without a prefix such as `module.`.
        tied: Whether the head shares the word embedding (a pipeline's last stage holds a copy of it).

    Raises:
        PatchError: No rule covers such a parameter; training it with a guessed lr would be silent.
    """
    for pattern, role in _ROLE_BY_NAME:
        if re.search(rf"(?:{pattern})$", name):
            shared = role is Role.OUTPUT_HEAD or name.endswith("word_embeddings.weight")
            return Role.TIED_EMBEDDING if tied and shared else role
    raise PatchError(f"parameter {name!r} has no muP role; covered: embeddings, qkv, proj, fc1, fc2, norms, biases, head")
