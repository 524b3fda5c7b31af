"""At the base width nothing of ours changes a bit; and `native` is megatron-core's own muP."""

import warnings

import pytest
import torch

from megatron_patches import upstream
from megatron_patches.mup.groups import parameter_groups
from megatron_patches.mup.model import attach, build_spec, configure
from megatron_patches.mup.rules import PARAMETRIZATIONS, Mup
from tests.megatron_patches.harness import loss_of, tokens, transformer_config


def gpt(config, spec, *, tied: bool = True):
    from megatron.core.models.gpt.gpt_model import GPTModel

    return GPTModel(
        config,
        spec,
        vocab_size=96,
        max_sequence_length=64,
        position_embedding_type="rope",
        share_embeddings_and_output_weights=tied,
    )


def local_spec():
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec

    return get_gpt_layer_local_spec(normalization="RMSNorm")


def losses(model, groups, *, steps: int, betas=(0.9, 0.95)) -> list[torch.Tensor]:
    optimizer = torch.optim.AdamW(groups, betas=betas)
    out = []
    for step in range(steps):
        loss = loss_of(model, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(loss.detach())
    return out


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
def test_width_multiplier_one_is_upstream_bit_for_bit(cpu, kind: str, tied: bool) -> None:
    scale_depth = 4**0.5 if kind == "minicpm" else 1.0  # the multiplier scale_depth / √L is then 1
    mup = Mup(kind, base_width=64, width=64, scale_depth=scale_depth, head_dim=16, base_head_dim=16)
    torch.manual_seed(1)
    plain = gpt(transformer_config(), local_spec(), tied=tied)
    config = configure(transformer_config(), mup)
    ours = attach(gpt(config, build_spec(config, mup=mup, attention="unfused"), tied=tied), mup)
    ours.load_state_dict(plain.state_dict())
    matrices = [p for p in plain.parameters() if p.dim() > 1]
    gains = [p for p in plain.parameters() if p.dim() == 1]
    theirs = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    groups = parameter_groups(ours, mup, 1e-3, 0.1)
    assert losses(plain, [{**g, "lr": 1e-3} for g in theirs], steps=5) == losses(ours, groups, steps=5)


@pytest.mark.skipif(upstream.version() < "0.17", reason="megatron-core below 0.17 has no use_mup to compare with")
@pytest.mark.parametrize("tied", [True, False])
def test_native_is_upstreams_use_mup(cpu, tied: bool) -> None:
    """lr and eps of every parameter identical, 20 steps of loss to 1e-5, initial spread the same."""
    from megatron.core.optimizer import OptimizerConfig, get_mup_config_overrides, get_standard_config_overrides

    # upstream's use_mup turns its own config into multipliers; ours comes from the table
    sizes = {"hidden": 128, "ffn": 320}
    theirs_config = transformer_config(
        **sizes, use_mup=True, mup_base_hidden_size=32, mup_embedding_mult=12.0, init_method_std=0.1
    )
    mup = Mup("native", base_width=32, width=128, base_depth=4, depth=4, scale_emb=12, init_std=0.1, head_dim=32)
    torch.manual_seed(1)
    theirs = gpt(theirs_config, local_spec(), tied=tied)
    config = configure(transformer_config(**sizes), mup)
    ours = attach(gpt(config, build_spec(config, mup=mup, attention="unfused"), tied=tied), mup)

    table = {id(p): group for group in parameter_groups(ours, mup, 0.01, 0.1) for p in group["params"]}
    settings = OptimizerConfig(optimizer="adam", lr=0.01, min_lr=0.0, weight_decay=0.1, adam_eps=1e-8)
    overrides = {**get_standard_config_overrides(settings), **get_mup_config_overrides(settings, theirs_config.mup_width_mult)}
    upstream_groups, names = [], dict(ours.named_parameters())
    for name, param in theirs.named_parameters():
        found = {k: v for key, values in overrides.items() if key.matches(param, name) for k, v in values.items()}
        mine = table[id(names[name])]
        lr, eps = found.get("max_lr", 0.01), found.get("eps", 1e-8)
        wd = 0.1 * found.get("wd_mult", 1.0)
        assert (mine["lr"], mine["eps"], mine["weight_decay"]) == (lr, eps, wd), name
        upstream_groups.append({"params": [param], "lr": lr, "eps": eps, "weight_decay": wd})
        rule = mup.table()[mine["role"]]
        if rule.init_std:
            assert float(param.detach().std()) == pytest.approx(rule.init_std, rel=0.05), name
    ours.load_state_dict(theirs.state_dict())
    for a, b in zip(
        losses(theirs, upstream_groups, steps=20), losses(ours, list({id(g): g for g in table.values()}.values()), steps=20)
    ):
        assert float(a) == pytest.approx(float(b), rel=1e-5)


def test_upstreams_own_mup_beside_ours_is_refused(cpu) -> None:
    from megatron_patches.errors import PatchError

    config = transformer_config()
    config.use_mup = True
    with pytest.raises(PatchError, match="use_mup"):
        configure(config, Mup(width=64, head_dim=16))
    with warnings.catch_warnings(), pytest.raises(PatchError, match=r"mup\.width=128"):
        configure(transformer_config(), Mup(width=128))


def test_tokens_differ_by_seed() -> None:
    assert not torch.equal(tokens(1)[0], tokens(2)[0])
