"""Search, layouts and refusals of the planner."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launch.cli import main
from launch.errors import ClusterError
from launch.plan import hardware
from launch.plan.answer import default_calibration, device_of_site, parse_layout, problem_of
from launch.plan.errors import PlanError
from launch.plan.hardware import builtin, find
from launch.plan.recipe import Prices, command, stage_costs, whole, with_layout
from launch.plan.search import price, search
from launch.plan.shapes import Layouts, ModelShape, stage_layers
from recipe.load import load_recipe


def problem(recipe="xmodel2-1.2b", gpus=8, gpu="h100"):
    return problem_of(load_recipe(recipe, []), gpu=gpu, num_gpus=gpus, engine="windtunnel")


def test_ranked_layouts_fit_and_rise_in_time():
    plan = search(problem(), default_calibration())
    times = [one.step_s for one in plan.ranked]
    assert times == pytest.approx(sorted(times), rel=2e-3)
    assert all(one.verdict == "fits" for one in plan.ranked)
    assert all(one.device_bytes <= 0.95 * plan.problem.cluster.hardware.memory_bytes for one in plan.ranked)
    assert plan.leanest.device_bytes <= plan.best.device_bytes
    assert all(one.reason and "nan" not in one.reason for one in plan.neighbours)


def test_what_leaves_no_headroom_is_tight_and_never_chosen():
    """1.2B on 8 H100 with 76 GiB: ZeRO-0 with micro batches of 4 takes less than all of it, and more than 95 %."""
    device = replace(find("h100"), memory_gib=76)
    full = price(problem(gpu=device), Layouts.one(dp=8, mbs=4, zero=0, num_microbatches=30), default_calibration())[0]
    assert device.usable_bytes < full.device_bytes < device.memory_bytes
    assert full.verdict == "tight"
    plan = search(problem(gpu=device), default_calibration(), top=1000)
    assert full.label() not in [one.label() for one in plan.ranked]


def test_a_ramp_s_batches_are_divided_too():
    """xmodel2's batch doubles from 480 sequences: 64 replicas would divide the later 960 only."""
    asked = problem(gpus=64)
    assert asked.ramp_seqs == (480,)
    plan = search(asked, default_calibration(), top=1000)
    assert all(480 % (one.layouts.row(0)["dp"] * one.layouts.row(0)["mbs"]) == 0 for one in plan.ranked)
    assert any("ramp" in one.reason for one in plan.neighbours)


def test_stages_cost_each_batch_of_the_ramp_at_its_own_speed():
    config, asked = load_recipe("xmodel2-1.2b", []), problem(gpus=64)
    best = search(asked, default_calibration()).best
    costs = stage_costs(best, asked, config, default_calibration(), Prices(per_gpu_hour=2, per_kwh=1))
    at_full_batch = config.stages[0].tokens / best.tokens_per_s / 86400
    assert at_full_batch < costs["stable"]["days"] < 1.2 * at_full_batch
    assert costs["stable"]["cost"] == pytest.approx(2 * costs["stable"]["gpu_hours"] + costs["stable"]["energy_kwh"])
    assert costs["stable"]["tokenize_core_hours"] > 0
    total = whole(costs)
    assert total["days"] == pytest.approx(costs["stable"]["days"] + costs["decay"]["days"])


@pytest.mark.parametrize(("recipe", "gpus"), [("xmodel2-1.2b", 64), ("70b", 1024)])
def test_the_command_of_a_plan_is_its_layout(recipe, gpus):
    config = load_recipe(recipe, [])
    best = search(problem(recipe, gpus=gpus), default_calibration()).best
    text = command(best, config, recipe=recipe, nodes=gpus // 8)
    assert f"--nodes {gpus // 8}" in text
    assert load_recipe(recipe, [word for word in text.split() if "=" in word]) == with_layout(config, best)


def test_what_differs_in_zero_alone_is_one_row():
    rows = [one.layouts.row(0) for one in search(problem(), default_calibration(), top=50).ranked]
    keys = [tuple(row[name] for name in ("tp", "pp", "vp", "cp", "mbs", "recompute")) for row in rows]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("gpus", "gpu", "says"),
    [(12, "h100", "nearest: 8, 16"), (0, "h100", "at least 1"), (8, "h1000", "h100"), (8, "hal", "known")],
)
def test_an_impossible_cluster_is_refused(gpus, gpu, says):
    with pytest.raises(PlanError, match=says):
        problem(gpus=gpus, gpu=gpu)


def test_a_batch_that_nothing_divides_names_the_gpus_that_would():
    asked = problem_of(load_recipe("xmodel2-1.2b", []), gpu="h100", num_gpus=64, engine="windtunnel", global_seqs=7)
    odd = replace(asked, shape=replace(asked.shape, num_heads=7, num_kv_heads=7, num_layers=1, ffn=7))
    with pytest.raises(PlanError, match=r"no layout divides 64 GPUs.* 7 sequences"):
        search(odd, default_calibration())


def test_the_whole_space_of_405b_on_4096_is_searched_quickly():
    """A generous bound: 2 s are asked for, on one core (README); tests share theirs."""
    shape = ModelShape(
        num_layers=126, hidden=16384, ffn=53248, num_heads=128, num_kv_heads=8, vocab=128256, seq_tokens=8192, tied=False
    )
    asked = replace(problem(gpus=4096), shape=shape, global_seqs=2048, ramp_seqs=())
    start = time.process_time()
    plan = search(asked, default_calibration())
    assert time.process_time() - start < 4
    assert plan.num_legal > 1000


def test_parts_add_up_to_the_step():
    one = price(problem(), Layouts.one(tp=2, pp=2, dp=2, mbs=4, num_microbatches=120), default_calibration())[0]
    assert sum(one.parts_s.values()) == pytest.approx(one.step_s)


def test_zero_shards_optimizer_states_and_recomputation_trades_time_for_memory():
    rows = [
        Layouts.one(dp=8, mbs=2, zero=z, recompute=r, num_microbatches=60) for z, r in ((0, "none"), (1, "none"), (1, "full"))
    ]
    plain, sharded, full = (price(problem(), row, default_calibration())[0] for row in rows)
    assert plain.allocated_bytes > sharded.allocated_bytes > full.allocated_bytes
    assert full.step_s > sharded.step_s


def test_nothing_fits_says_what_would():
    with pytest.raises(PlanError, match=r"no layout fits .* too many; what would fit: .*GPUs") as caught:
        search(problem("70b", gpus=4, gpu="a100-40"), default_calibration())
    said = re.search(r"needs ([\d.]+) GiB.*full recomputation ([\d.]+) \(([\d.]+)\)", str(caught.value))
    least, with_it, without = (float(size) for size in said.groups())
    assert least == with_it < without


@pytest.mark.parametrize("option", ["--top=0", "--price=-1", "--kwh-price=-1"])
def test_a_number_that_can_t_be_is_refused(option, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["plan", "tiny", option])
    assert caught.value.code == 2
    assert "greater than or equal" in capsys.readouterr().err


def test_unknown_gpu_names_the_nearest():
    with pytest.raises(PlanError, match="h100"):
        find("h1000")


def test_every_figure_of_a_device_has_its_source():
    plain = {"name", "aliases", "kind", "gpus_per_node"}
    for path in Path(hardware.__file__).parent.glob("hardware/*.yaml"):
        for line in path.read_text().splitlines():
            assert "#" in line or line.partition(":")[0] in plain, (path.name, line)


def test_a_device_without_the_recipe_s_precision_says_what_it_can_train():
    with pytest.raises(PlanError, match=r"v100-32 has no bf16.* -o precision=fp32"):
        problem(gpu="v100")
    config = load_recipe("xmodel2-1.2b", ["precision=fp32"])
    assert search(problem_of(config, gpu="v100", num_gpus=8, engine="windtunnel"), default_calibration()).num_fit


def test_a_site_gives_its_device_and_node():
    device = device_of_site("a100", num_gpus=8)
    assert (device.name, device.gpus_per_node, device.memory_gib) == ("a100-40", 4, find("a100-40").memory_gib)
    assert device_of_site("cpu", num_gpus=2).kind == "cpu"
    assert device_of_site("h100", num_gpus=8, gpu="h200").name == "h200"
    plan = search(problem(gpus=12, gpu=device), default_calibration())  # three of its nodes; not of nodes of eight
    assert plan.problem.cluster.hardware.gpus_per_node == 4


def test_a_site_s_device_comes_from_gres_or_is_asked_for(tmp_path):
    site = "partition: p\naccelerator: cuda\nprocesses_per_node: 4\nmax_nodes: 2\ntime_limit: 8h\n"
    path = tmp_path / "mine.yaml"
    path.write_text(site + "gres: gpu:h100:4\n")
    assert device_of_site(str(path), num_gpus=8).name == "h100-sxm"
    with pytest.raises(PlanError, match="max_nodes=2"):
        device_of_site(str(path), num_gpus=16)
    path.write_text(site + "gres: gpu:4\n")
    with pytest.raises(PlanError, match="add gpu:"):
        device_of_site(str(path), num_gpus=8)
    with pytest.raises(ClusterError, match="examples: a100"):
        device_of_site("nowhere", num_gpus=8)


def test_layout_text():
    one = parse_layout("tp=2,recompute=full", defaults={"mbs": 2, "zero": 1, "recompute": "none"}, num_gpus=8, global_seqs=64)
    assert one.row(0)["dp"] == 4
    assert one.row(0)["num_microbatches"] == 8
    for bad in ("tp=3", "tq=2", "tp=x", "mbs=3", "dp=8,tp=2"):
        with pytest.raises(PlanError):
            parse_layout(bad, defaults={"mbs": 2, "zero": 1, "recompute": "none"}, num_gpus=8, global_seqs=64)


def test_a_batch_that_is_not_divided_names_what_would_be():
    with pytest.raises(PlanError, match="mbs that does: 1, 2, 4, 8"):
        parse_layout("mbs=3", defaults={"mbs": 2, "zero": 1, "recompute": "none"}, num_gpus=8, global_seqs=64)
    config = load_recipe("xmodel2-1.2b", ["batch.global_tokens=3930000"])
    with pytest.raises(PlanError, match="nearest: 3928064, 3932160"):
        problem_of(config, gpu="h100", num_gpus=8, engine="windtunnel")


def test_a_layout_that_the_engine_refuses_is_priced_with_the_reason(capsys):
    from launch.cli import main

    with pytest.raises(SystemExit):
        main(["plan", "xmodel2-1.2b", "--gpus", "64", "--layout", "tp=16,mbs=1", "--json"])
    assert "does not divide 24 attention heads; nearest: 4, 6, 8, 12" in json.loads(capsys.readouterr().out)["refused"]


def test_logits_are_whole_where_the_recipe_forces_it():
    """8B has 128,256 pieces: 8,192 tokens of whole logits take GiB, a chunk 256 MiB in fp32."""
    whole = problem_of(load_recipe("8b", ["backends.cross_entropy=unfused"]), gpu="h100", num_gpus=8, engine="windtunnel")
    one = Layouts.one(dp=8, zero=1, recompute="full", num_microbatches=2)
    full, chunked = (price(asked, one, default_calibration())[0] for asked in (whole, problem("8b")))
    assert full.allocated_bytes > chunked.allocated_bytes + 2**30


def test_every_device_file_loads_and_is_found_by_its_aliases():
    for name, device in builtin().items():
        assert find(name) is device
        assert all(find(alias) is device for alias in device.aliases)


def test_xmodel2_has_its_published_size():
    shape = ModelShape.of_recipe(load_recipe("xmodel2-1.2b", []).model)
    assert shape.num_params == 1_151_485_440 + 100_270_080


def test_stages_hold_all_layers():
    shape = ModelShape.of_recipe(load_recipe("8b", []).model)
    for pp in (1, 2, 3, 5, 8):
        assert sum(stage_layers(shape, pp)) == sum(stage_layers(shape, pp, balance_head=True)) == 32


def test_command_prints_json(capsys):
    from launch.cli import main

    with pytest.raises(SystemExit) as left:
        main(["plan", "xmodel2-1.2b", "--gpus", "8", "--layout", "tp=2,mbs=4", "--json"])
    assert left.value.code == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["layout"]["tp"] == 2
    assert answer["memory_bytes"]["allocated"] <= answer["memory_bytes"]["reserved"] <= answer["memory_bytes"]["device"]
