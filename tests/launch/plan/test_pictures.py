"""The pipeline's timeline, scaling curves and the pictures of a plan, in its own folder and on a run's page."""

import itertools
import re
from pathlib import Path

import pytest

from launch.plan.answer import default_calibration
from launch.plan.pictures import MEMORY, THROUGHPUT, TIMELINE, draw, scaling
from launch.plan.search import search
from launch.plan.timeline import idle_frac, order, timeline
from launch.predict import predict
from recipe.report.page import write_report
from recipe.rundir import read_json
from tests.launch.plan.test_search import problem
from tests.recipe.report.runs import write_run


@pytest.mark.parametrize(("pp", "vp", "num_microbatches"), [(1, 1, 3), (4, 1, 8), (4, 1, 2), (4, 2, 8), (4, 4, 4), (2, 3, 6)])
def test_equal_stages_take_the_closed_form_s_time(pp, vp, num_microbatches):
    """(m + (p − 1)/v)·(f + b), arXiv 2104.04473 §2.2."""
    blocks = timeline(forward_s=[1.0] * pp, backward_s=[2.0] * pp, vp=vp, num_microbatches=num_microbatches)
    assert max(block.end_s for block in blocks) == pytest.approx((num_microbatches + (pp - 1) / vp) * 3)
    assert idle_frac(blocks) == pytest.approx((pp - 1) / vp / (num_microbatches + (pp - 1) / vp))


@pytest.mark.parametrize(("pp", "vp", "num_microbatches"), [(3, 1, 5), (2, 2, 4)])
def test_every_microbatch_passes_every_stage_once_in_order(pp, vp, num_microbatches):
    blocks = timeline(forward_s=[1.0, 3.0, 2.0][:pp], backward_s=[2.0, 1.0, 5.0][:pp], vp=vp, num_microbatches=num_microbatches)
    at = {(one.forward, one.chunk * pp + one.stage, one.microbatch): one for one in blocks}
    assert len(at) == len(blocks) == 2 * pp * vp * num_microbatches
    for (forward, place, micro), one in at.items():
        if forward and place:
            assert one.start_s >= at[True, place - 1, micro].end_s
        if not forward and place < pp * vp - 1:
            assert one.start_s >= at[False, place + 1, micro].end_s
        if not forward:
            assert one.start_s >= at[True, place, micro].end_s
    for stage in range(pp):
        mine = sorted((one for one in blocks if one.stage == stage), key=lambda one: one.start_s)
        assert all(after.start_s >= before.end_s - 1e-9 for before, after in itertools.pairwise(mine))


def test_the_first_stage_runs_ahead_and_the_last_alternates():
    assert [forward for forward, _, _ in order(stage=0, pp=4, vp=1, num_microbatches=8)][:5] == [True, True, True, True, False]
    assert [forward for forward, _, _ in order(stage=3, pp=4, vp=1, num_microbatches=8)][:4] == [True, False, True, False]


def test_throughput_rises_with_gpus_and_less_than_in_proportion():
    strong = scaling(problem(gpus=16), default_calibration())["strong"]
    assert [size for size, _ in strong][:2] == [2, 4]
    for (size, rate), (more, faster) in itertools.pairwise(strong):
        assert rate < faster < 1.01 * rate * more / size


def test_pictures_are_written_whole(tmp_path):
    calibration = default_calibration()
    paths = draw(search(problem(), calibration), calibration, out=tmp_path / "pictures")
    assert [path.name for path in paths] == [MEMORY, THROUGHPUT, TIMELINE]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == sorted([MEMORY, THROUGHPUT, TIMELINE])
    for path in paths:
        assert "<svg" in path.read_text()
        assert path.read_text().rstrip().endswith("</svg>")


def test_the_page_of_a_run_has_the_plan_of_its_device(tmp_path):
    run = write_run(tmp_path / "one")
    assert predict(run) is None  # its device isn't known
    assert predict(run, gpu="a100-80")["label"] == read_json(run.plan)["label"]
    plan = read_json(run.whole_plan)
    page = write_report([run]).read_text(encoding="utf-8")
    shown = page.split("What the planner would choose")[1].split("</details>")[0]
    assert "1 × a100" in shown
    assert re.findall(r"<td>(.*?)</td>", shown) == [one["label"] for one in plan["ranked"]]
    assert re.findall(r'<img [^>]*src="(.{26})', shown) == ["data:image/svg+xml;base64,"] * 3
    assert len(page) < 1_000_000


def test_a_plan_that_somebody_put_there_stays_unless_a_device_is_asked_for(tmp_path):
    run = write_run(tmp_path / "one")
    predict(run, gpu="a100-80")
    run.versions.write_text('{"torch": "2.13.0+cpu"}')
    assert predict(run)["device"] == "cpu-node"
    assert read_json(run.whole_plan)["cluster"]["gpu"].startswith("a100")
    predict(run, gpu="h100-sxm")
    assert read_json(run.whole_plan)["cluster"]["gpu"] == "h100-sxm"


def test_the_pictures_show_the_run_s_own_layout(tmp_path):
    calibration = default_calibration()
    found = search(problem(), calibration)
    own = found.ranked[-1]
    assert own.label() != found.best.label()
    one, other = (draw(found, calibration, out=tmp_path / str(of is None), of=of) for of in (own, None))
    assert Path(one[0]).read_bytes() != Path(other[0]).read_bytes()
    assert Path(one[1]).read_bytes() == Path(other[1]).read_bytes()  # throughput: the best layout's, at every size
