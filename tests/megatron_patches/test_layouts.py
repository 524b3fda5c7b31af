"""On real processes: the coordinate check is the same in every layout, and the audit catches accidents under ZeRO."""

import pytest

from tests.megatron_patches.accidents import ACCIDENTS
from tests.megatron_patches.harness import torchrun

LAYOUTS = [
    (2, ["zero=3"]),
    (4, ["tp=2", "pp=2", "sp=true", "zero=1"]),
]
SLOW = [
    (2, ["tp=2", "sp=true", "zero=1"]),
    (2, ["pp=2", "zero=1"]),
    (2, ["zero=2"]),
    (2, ["tp=2", "zero=0"]),
    (2, ["zero=1"]),
    (2, ["cp=2", "zero=1"]),
    (4, ["cp=2", "tp=2", "sp=true", "zero=2"]),
    (2, ["pp=2", "vp=2", "zero=0"]),
    (4, ["tp=2", "sp=true", "zero=3"]),
]


@pytest.fixture(scope="module")
def alone() -> dict:
    return torchrun("layout_worker.py", "coords", "zero=1", processes=1)


@pytest.mark.parametrize(
    ("processes", "layout"), [*LAYOUTS, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)], ids=str
)
def test_coordinate_check_is_the_same_in_every_layout(alone: dict, processes: int, layout: list[str]) -> None:
    result = torchrun("layout_worker.py", "coords", *layout, processes=processes)
    modules = set(result["measurements"][0]["initial"])  # no attention scores under context parallelism
    expected = [
        {**mine, "slope": pytest.approx(mine["slope"], abs=1e-4)} for mine in alone["verdicts"] if mine["module"] in modules
    ]
    assert result["verdicts"] == expected
    for here, there in zip(result["measurements"], alone["measurements"], strict=True):
        assert here["losses"] == pytest.approx(there["losses"], rel=1e-5)
        for ours, expected in zip([here["initial"], *here["updates"]], [there["initial"], *there["updates"]], strict=True):
            assert ours == pytest.approx({module: expected[module] for module in modules}, rel=1e-4)


@pytest.mark.parametrize(
    ("processes", "layout"),
    [
        (2, ["zero=3"]),
        pytest.param(2, ["zero=1", "tp=2"], marks=pytest.mark.slow),
        pytest.param(2, ["zero=2"], marks=pytest.mark.slow),
        pytest.param(2, ["zero=0", "pp=2"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_audit_finds_each_accident(processes: int, layout: list[str]) -> None:
    result = torchrun("layout_worker.py", "audit", *layout, processes=processes)
    assert result.pop("healthy") == []
    assert set(result) == {"deepspeed_scheduler_block", *(accident.__name__ for accident in ACCIDENTS)}
    for accident, findings in result.items():
        assert findings, f"{accident} went unnoticed"
    assert any("forward multiplier of logits is 0.25" in line for line in result["tied_head_scaled_twice"])
    assert any("the table says 0.005" in line for line in result["deepspeed_scheduler_block"])
