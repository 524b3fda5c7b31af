"""The coordinate check on real text, in short: right tables pass, `standard` fails, and each planted mistake is caught.

The long form (widths to 512, three seeds and ten steps) is `windtunnel coord-check`.
"""

from collections.abc import Iterator

import pytest
import torch

import megatron_patches
from megatron_patches.cpu.world import single_process_world
from megatron_patches.errors import PatchError
from megatron_patches.mup import coordcheck
from megatron_patches.mup.coordcheck import Measurement, Setting
from megatron_patches.mup.mistakes import MISTAKES, plant
from megatron_patches.mup.rules import Mup

SETTING, SEEDS = Setting(steps=6), (1, 2)
SIZES = {"width": (64, 256), "depth": (2, 16)}


@pytest.fixture(scope="module", autouse=True)
def _world() -> Iterator[None]:
    """Patches and process groups for the whole file: they are read only."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with megatron_patches.apply(cpu=True):
        single_process_world()
        yield
    torch.set_num_threads(threads)


def table(kind: str, **more: float) -> Mup:
    return Mup(kind, base_width=64, width=64, base_depth=2, depth=2, scale_emb=12, scale_depth=1.4, init_std=0.1,
               base_head_dim=32, **more)  # type: ignore[arg-type]  # fmt: skip


def measure(mup: Mup, axis: str, sizes: tuple[int, ...], setting: Setting = SETTING) -> list[Measurement]:
    return coordcheck.measure(mup, axis=axis, sizes=sizes, seeds=SEEDS, setting=setting)


@pytest.fixture(scope="module")
def healthy() -> dict[tuple[str, str], list[Measurement]]:
    """(parametrisation, axis) -> measurements, of the tables that mistakes are planted into."""
    return {
        (kind, axis): measure(table(kind), axis, SIZES[axis]) for kind, axis in (("minicpm", "width"), ("completep", "depth"))
    }


def failed(measured: list[Measurement]) -> dict[str, float]:
    return {f"{v.module} {v.quantity}": round(v.slope, 2) for v in coordcheck.judge(measured) if not v.passed}


def test_minicpm_passes_in_width_and_completep_in_depth(healthy) -> None:
    for key, measured in healthy.items():
        assert failed(measured) == {}, key


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["tensor_programs", "completep"])
def test_other_tables_pass_in_width(kind: str, tied: bool) -> None:
    setting = Setting(steps=SETTING.steps, tied=tied, kv_share=1 if tied else 2)
    assert failed(measure(table(kind), "width", SIZES["width"], setting)) == {}


def test_standard_fails_in_width() -> None:
    worst = failed(measure(table("standard"), "width", SIZES["width"]))
    assert worst["mlp update"] > 1
    assert worst["residual update"] > 1


def test_minicpm_is_no_rule_for_depth() -> None:
    """Its branches shrink by 1/√L without lr to match: the stream's updates grow with depth."""
    assert failed(measure(table("minicpm"), "depth", SIZES["depth"]))["residual update"] > 0


@pytest.mark.parametrize("name", MISTAKES)
def test_each_planted_mistake_is_caught(healthy, name: str) -> None:
    """Only the larger size is trained: at the base size a mistake multiplies by 1."""
    mistake = MISTAKES[name]
    kind = "minicpm" if mistake.axis == "width" else "completep"
    small, large = SIZES[mistake.axis]
    right = [one for one in healthy[kind, mistake.axis] if one.size == small]
    wrong = measure(plant(table(kind), mistake), mistake.axis, (large,))
    assert failed(right + wrong), f"{name} went unnoticed"


def test_one_size_gives_no_slope(healthy) -> None:
    with pytest.raises(PatchError, match="two widths"):
        coordcheck.judge([one for one in healthy["minicpm", "width"] if one.size == 64])
    with pytest.raises(PatchError, match="no multiple of the head size"):
        coordcheck.sized(table("minicpm"), "width", 80, SETTING)
