"""The muP table against hand-computed values, and roles by name."""

import re
from math import sqrt
from pathlib import Path

import pytest

from megatron_patches.errors import PatchError
from megatron_patches.mup.rules import HIDDEN, PARAMETRIZATIONS, Budget, Mup, Role, Rule, betas_at, group_values, role_of

WIDE = {"base_width": 256, "width": 1024, "base_depth": 4, "depth": 16, "scale_emb": 12, "scale_depth": 1.4, "init_std": 0.1}


def rules(kind: str, **more: object) -> tuple[Mup, dict[Role, Rule]]:
    mup = Mup(kind, **{**WIDE, **more})
    return mup, mup.table()


@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
def test_every_role_has_a_rule(kind: str) -> None:
    assert set(rules(kind)[1]) == set(Role)


def test_minicpm_is_table_6() -> None:
    mup, table = rules("minicpm")
    assert (mup.embedding_mult, mup.residual_mult, mup.logits_mult, mup.softmax_scale) == (12, 1.4 / 4, 0.25, None)
    for role in HIDDEN:
        assert (table[role].init_std, table[role].lr_mult, table[role].eps_mult) == (0.05, 0.25, 1)
    assert (table[Role.TIED_EMBEDDING].init_std, table[Role.TIED_EMBEDDING].lr_mult) == (0.1, 1)
    assert table[Role.NORM_GAIN].lr_mult == 1


def test_completep_scales_blocks_with_depth() -> None:
    mup, table = rules("completep", alpha=0.5)
    assert mup.residual_mult == 0.5
    assert table[Role.HIDDEN_FC1] == Rule(init_std=0.05, lr_mult=0.125, wd_mult=4, eps_mult=0.125)
    assert table[Role.NORM_GAIN].lr_mult == 0.5
    assert table[Role.FINAL_NORM_GAIN].lr_mult == 1
    mup, table = rules("completep", alpha=1.0)
    assert mup.residual_mult == 0.25
    assert (table[Role.HIDDEN_QKV].lr_mult, table[Role.HIDDEN_QKV].eps_mult) == (0.25, 1 / 16)


def test_standard_and_native_shrink_output_projections() -> None:
    assert rules("standard")[1][Role.HIDDEN_FC2].init_std == pytest.approx(0.1 / sqrt(32))
    assert rules("native")[1][Role.HIDDEN_PROJ].init_std == pytest.approx(0.1 / sqrt(32 * 4))
    assert rules("native")[1][Role.HIDDEN_PROJ].eps_mult == 0.25
    assert rules("native")[0].softmax_scale == 1 / 64


@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
def test_base_model_has_no_multipliers(kind: str) -> None:
    mup = Mup(kind, base_head_dim=64)
    assert (mup.embedding_mult, mup.logits_mult) == (1, 1)
    assert mup.softmax_scale in (None, 1 / 8)
    for role, rule in mup.table().items():
        assert (rule.lr_mult, rule.eps_mult) == (1, 1), role


@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
def test_batch_and_duration_multiply_every_role(kind: str) -> None:
    """Complete(d)P: four times the batch doubles lr and coupled decay, halves eps; four times the tokens undo it."""
    plain, wide = rules(kind)[1], rules(kind, budget=Budget(batch_mult=4))[1]
    for role, rule in wide.items():
        was = plain[role]
        assert (rule.lr_mult, rule.wd_mult, rule.eps_mult) == (2 * was.lr_mult, 2 * was.wd_mult, was.eps_mult / 2), role
        assert (rule.step_mult, rule.init_std, rule.forward_mult) == (4, was.init_std, was.forward_mult)
    assert rules(kind, budget=Budget(batch_mult=4, duration_mult=4))[1] == plain
    assert rules(kind, budget=Budget(duration_mult=2))[1][Role.BIAS].lr_mult == pytest.approx(
        plain[Role.BIAS].lr_mult / sqrt(2)
    )
    with pytest.raises(PatchError, match="duration_mult"):
        Budget(duration_mult=0)


def test_groups_at_another_batch() -> None:
    """By hand: base lr 0.01, decay 0.1, eps 1e-8, m_N = 4, r = 4."""
    rule = rules("minicpm", budget=Budget(batch_mult=4))[1][Role.HIDDEN_FC1]
    group = group_values(Role.HIDDEN_FC1, rule, 0.01, 0.1, betas=(0.9, 0.95))
    assert (group["lr"], group["weight_decay"], group["eps"]) == (0.005, 0.2, 0.5e-8)
    assert group["betas"] == (pytest.approx(0.6), pytest.approx(0.8))
    alone = group_values(Role.HIDDEN_FC1, rule, 0.01, 0.1, betas=(0.9, 0.95), decay_mode="independent")
    assert alone["lr"] * alone["weight_decay"] == pytest.approx(0.4)  # a quarter of the steps, each shrinks four times as much
    with pytest.raises(PatchError, match="betas are needed"):
        group_values(Role.HIDDEN_FC1, rule, 0.01, 0.1)
    with pytest.raises(PatchError, match="no memory"):
        betas_at(16, (0.9, 0.95))


@pytest.mark.parametrize(
    ("name", "tied", "role"),
    [
        ("embedding.word_embeddings.weight", False, Role.INPUT_EMBEDDING),
        ("module.module.embedding.word_embeddings.weight", True, Role.TIED_EMBEDDING),
        ("output_layer.weight", True, Role.TIED_EMBEDDING),
        ("output_layer.weight", False, Role.OUTPUT_HEAD),
        ("embedding.position_embeddings.weight", True, Role.INPUT_EMBEDDING),
        ("decoder.layers.3.self_attention.linear_qkv.weight", True, Role.HIDDEN_QKV),
        ("decoder.layers.3.self_attention.linear_qkv.bias", True, Role.BIAS),
        ("decoder.layers.3.self_attention.linear_qkv.layer_norm_weight", True, Role.NORM_GAIN),
        ("decoder.layers.3.self_attention.q_layernorm.weight", True, Role.NORM_GAIN),
        ("decoder.layers.3.self_attention.linear_proj.weight", True, Role.HIDDEN_PROJ),
        ("decoder.layers.13.mlp.linear_fc1.weight", True, Role.HIDDEN_FC1),
        ("0.decoder.layers.13.mlp.linear_fc2.weight", True, Role.HIDDEN_FC2),
        ("decoder.layers.0.pre_mlp_layernorm.weight", True, Role.NORM_GAIN),
        ("decoder.final_layernorm.weight", True, Role.FINAL_NORM_GAIN),
    ],
)
def test_roles_go_by_name(name: str, tied: bool, role: Role) -> None:
    assert role_of(name, tied=tied) is role


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(PatchError, match=r"experts.*no muP role"):
        role_of("decoder.layers.0.mlp.experts.linear_fc1.weight0", tied=True)


@pytest.mark.parametrize("bad", [{"parametrization": "mup"}, {"width": 0}, {"alpha": 0.4}, {"init_std": -1.0}])
def test_bad_values_are_named(bad: dict) -> None:
    with pytest.raises(PatchError, match=next(iter(bad))):
        Mup(**bad)


@pytest.mark.parametrize("readme", ["README.md", "megatron_patches/README.md"])
def test_readme_links_lead_to_the_formulas(readme: str) -> None:
    """Each link `Mup.name` → rules.py#L… ends on the line that defines it."""
    root = Path(__file__).parents[2]
    lines = (root / "megatron_patches/mup/rules.py").read_text(encoding="utf-8").splitlines()
    pattern = r"\[`(?:Mup\.)?(\w+)`\]\((?:megatron_patches/)?mup/rules\.py#L(\d+)\)"
    links = re.findall(pattern, (root / readme).read_text(encoding="utf-8"))
    assert len(links) >= 5
    for name, number in links:
        assert re.search(rf"(def|class) {name}\b", lines[int(number) - 1]), f"{readme}: {name} is not on line {number}"
