"""Planted mistakes: what a coordinate check must catch, or it proves nothing.

Each is a factor on one number of the table, depending on width (m) or depth (l) as such mistakes do in practice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace

from megatron_patches.mup.rules import HIDDEN, Mup, Role, Rule


@dataclass(frozen=True)
class Mistake:
    """Factors as functions of the width and depth multipliers.

    Attributes:
        axis: The axis along which it shows.
        logits, residual: On the forward multipliers.
        rules: (roles, field of Rule, factor).
    """

    axis: str = "width"
    logits: Callable[[float], float] = lambda m: 1.0
    residual: Callable[[float], float] = lambda deep: 1.0
    rules: tuple[tuple[tuple[Role, ...], str, Callable[[float], float]], ...] = ()


_EMBEDDING = (Role.TIED_EMBEDDING, Role.INPUT_EMBEDDING)
MISTAKES: Mapping[str, Mistake] = {
    "logits multiplier left out": Mistake(logits=lambda m: m),
    "logits multiplier applied twice": Mistake(logits=lambda m: 1 / m),
    "logits multiplier inverted": Mistake(logits=lambda m: m**2),
    "hidden lr not divided by width": Mistake(rules=((HIDDEN, "lr_mult", lambda m: m),)),
    "hidden lr divided by width twice": Mistake(rules=((HIDDEN, "lr_mult", lambda m: 1 / m),)),
    "hidden lr inverted": Mistake(rules=((HIDDEN, "lr_mult", lambda m: m**2),)),
    "hidden init not shrunk": Mistake(rules=((HIDDEN, "init_std", lambda m: m**0.5),)),
    "hidden init shrunk twice": Mistake(rules=((HIDDEN, "init_std", lambda m: m**-0.5),)),
    "lr of fc2 alone not divided": Mistake(rules=(((Role.HIDDEN_FC2,), "lr_mult", lambda m: m),)),
    "lr of qkv alone not divided": Mistake(rules=(((Role.HIDDEN_QKV,), "lr_mult", lambda m: m),)),
    "embedding lr divided like a matrix's": Mistake(rules=((_EMBEDDING, "lr_mult", lambda m: 1 / m),)),
    "embedding init shrunk like a matrix's": Mistake(rules=((_EMBEDDING, "init_std", lambda m: m**-0.5),)),
    "residual multiplier left out": Mistake(axis="depth", residual=lambda deep: deep),
    "residual multiplier applied twice": Mistake(axis="depth", residual=lambda deep: 1 / deep),
}


@dataclass(frozen=True)
class MistakenMup(Mup):
    """A table with a planted mistake."""

    mistake: Mistake = field(default_factory=Mistake)

    @property
    def logits_mult(self) -> float:
        """The table's, × the mistake."""
        return super().logits_mult * self.mistake.logits(self.width_mult)

    @property
    def residual_mult(self) -> float:
        """The table's, × the mistake."""
        return super().residual_mult * self.mistake.residual(self.depth_mult)

    def table(self) -> dict[Role, Rule]:
        """The table with the mistake in it."""
        table = super().table()
        for roles, name, factor in self.mistake.rules:
            for role in roles:
                table[role] = replace(table[role], **{name: getattr(table[role], name) * factor(self.width_mult)})
        return table


def plant(mup: Mup, mistake: Mistake) -> MistakenMup:
    """The same parametrisation with a mistake."""
    return MistakenMup(**{item.name: getattr(mup, item.name) for item in fields(Mup)}, mistake=mistake)
