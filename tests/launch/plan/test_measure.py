"""`windtunnel doctor --bench`: what is measured becomes a file that the planner takes."""

import pytest

from launch.plan import measure
from launch.plan.answer import default_calibration, problem_of
from launch.plan.errors import PlanError
from launch.plan.hardware import load_file
from launch.plan.search import price, search
from launch.plan.shapes import Layouts
from launch.plan.space import stack
from recipe.load import load_recipe

FOUND = {
    "device": "cpu", "threads": 1, "matmul": {"32": 0.01, "256": 0.03, "1024": 0.04}, "other": 0.05,
    "attention": {"forward": 0.02, "backward": 0.012, "masked_forward": 0.044, "masked_backward": 0.01},
    "copy": 8.0, "small": 3.5, "reduce": {"16384": 2e-4, "33554432": 2e-4 + 0.01},
}  # fmt: skip


def test_the_file_says_what_was_measured(tmp_path):
    path = tmp_path / "here.yaml"
    path.write_text(measure.as_yaml([FOUND, FOUND | {"copy": 10.0}], name="here"))
    device = load_file(path)
    assert device.peak_flops("fp32") == pytest.approx(0.04e12)
    assert device.peak_flops("bf16") == pytest.approx(0.05e12)
    assert device.matmul_frac_by_k == {32: 0.25, 256: 0.75, 1024: 1.0}
    assert device.attention_frac == {"forward": 0.5, "backward": 0.3, "masked_forward": 1.1, "masked_backward": 0.25}
    assert device.memory_bytes_per_s == pytest.approx(9e9)
    assert device.node_link.bytes_per_s == pytest.approx(33554432 / 0.01, rel=1e-3)  # 2·(n − 1)/n of it, n = 2
    assert device.node_link.latency_s == pytest.approx(1e-4)
    assert all("#" in line for line in path.read_text().splitlines() if line.split(":")[0] not in {"name", "kind"})


def test_context_parallelism_goes_by_the_masked_speed(tmp_path):
    def step_s(**attention):
        path = tmp_path / "here.yaml"
        found = FOUND | {"attention": FOUND["attention"] | attention}
        path.write_text(measure.as_yaml([found, found], name="here"))
        problem = problem_of(load_recipe("demo", []), gpu=str(path), num_gpus=2, engine="windtunnel")
        layouts = stack([Layouts.one(dp=2, num_microbatches=1), Layouts.one(cp=2, num_microbatches=2)])
        return [one.step_s for one in price(problem, layouts, default_calibration())]

    plain, context = step_s()
    same, slower = step_s(masked_forward=0.008, masked_backward=0.005)
    assert same == plain
    assert slower > context


def test_figures_of_one_process_leave_links_out(tmp_path):
    path = tmp_path / "alone.yaml"
    path.write_text(measure.as_yaml([FOUND | {"reduce": {}}], name="alone"))
    assert load_file(path).gpus_per_node == 1


def test_a_file_that_is_there_is_left_alone(tmp_path):
    path = tmp_path / "here.yaml"
    path.write_text("mine")
    with pytest.raises(PlanError, match="already"):
        measure.write_hardware(path, num_processes=1)
    assert path.read_text() == "mine"


@pytest.mark.slow
def test_this_machine_is_measured_and_planned_for(tmp_path):
    path = tmp_path / "here.yaml"
    measure.write_hardware(path, num_processes=2)
    device = load_file(path)
    assert 1e9 < device.peak_flops("fp32") < 1e14
    assert 1e8 < device.node_link.bytes_per_s < 1e12
    problem = problem_of(load_recipe("demo", []), gpu=str(path), num_gpus=2, engine="windtunnel")
    assert search(problem, default_calibration()).best.step_s > 0
