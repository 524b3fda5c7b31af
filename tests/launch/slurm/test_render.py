"""sbatch files: golden for the example sites, and properties that hold for any."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from launch.cluster import Site, load_site, site_names
from launch.slurm.chain import Link, Request, build_chain
from launch.slurm.check import script_faults
from launch.slurm.render import Place, file_name, render
from launch.slurm.step import StepPlace, train_step

GOLDEN = Path(__file__).parent / "golden"
RUN = Path("/scratch/me/runs/demo")
PLACE = Place(
    run_dir=RUN, folder=Path("/home/me/windtunnel"), data_dir=Path("/scratch/me/data"),
    python="/home/me/windtunnel/.venv/bin/python", num_nodes=4, min_nodes=2,
)
REQUEST = Request(
    recipe=RUN / "jobs" / "recipe.yaml", run_dir=RUN, data_dir=PLACE.data_dir, num_missing_shards=12,
    branches={"at-20B": 20 * 10**9},
)
LINKS = {link.name: link for link in build_chain(REQUEST)}


@pytest.mark.parametrize("site", site_names())
@pytest.mark.parametrize("link", LINKS)
def test_golden(site: str, link: str) -> None:
    compare(render(LINKS[link], site=load_site(site), place=PLACE), GOLDEN / site / file_name(LINKS[link]))


def test_a_fixed_number_of_nodes() -> None:
    """Without a range SLURM is told the tasks; with one it would want as many again after a loss (the golden files)."""
    text = render(LINKS["train"], site=load_site("cpu"), place=replace(PLACE, min_nodes=4))
    options = {line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH")}
    assert "--nodes=4" in options
    assert any(option.startswith("--ntasks-per-node=") for option in options)
    assert not any(option.startswith("--mincpus") for option in options)


BOXES = {
    "pyxis": {"container": {"kind": "pyxis", "image": "/images/wt.sqsh", "mounts": ["/scratch:/scratch"]}},
    "apptainer": {"container": {"kind": "apptainer", "image": "/images/wt.sif", "python": "/opt/env/bin/python"}},
    "modules": {"modules": ["cuda/12.8", "python/3.11"]},
    "venv": {"setup": ["source /home/me/env/bin/activate"], "python": "/home/me/env/bin/python"},
}


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("link", ["verify", "train"])
def test_golden_surroundings(box: str, link: str) -> None:
    """Containers, modules and a virtual environment: the batch script, and the step that the supervisor starts from it."""
    site = sim(accelerator="cuda", gres="gpu:2", **BOXES[box])
    place = replace(PLACE, python=site.python or PLACE.python)
    text = render(LINKS[link], site=site, place=place)
    if link == "train":
        where = StepPlace(nodes=("n1", "n2"), python=place.python, visible=place.visible)
        step = train_step(site, where, run_dir=RUN, attempt=1, log_dir=RUN / "attempts" / "001-7")
        text += f"\n# The supervisor then runs:\n# {shlex.join(step)}\n"
    compare(text, GOLDEN / box / file_name(LINKS[link]))


def compare(text: str, path: Path) -> None:
    """Run with WINDTUNNEL_WRITE_GOLDEN=1 to write them anew, then read the difference."""
    if os.environ.get("WINDTUNNEL_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
    assert script_faults(text) == []


def sim(**changes: object) -> Site:
    facts = {"name": "sim", "partition": "batch", "accelerator": "cpu", "processes_per_node": 2}
    return Site.model_validate(facts | {"time_limit": 120, "leave_before": 30} | changes)


def options(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    return dict(line.removeprefix("#SBATCH --").split("  #")[0].strip().partition("=")[::2] for line in lines)


@pytest.mark.parametrize(
    ("seconds", "slurm"),
    [(120, "0-00:02:00"), (121, "0-00:03:00"), (5400, "0-01:30:00"), (86400, "1-00:00:00"), (7 * 86400, "7-00:00:00")]
)
def test_time_limit_rounds_up_to_minutes(seconds: float, slurm: str) -> None:
    assert options(render(LINKS["train"], site=sim(time_limit=seconds), place=PLACE))["time"] == slurm


def test_every_option_is_explained() -> None:
    for line in render(LINKS["train"], site=load_site("h100"), place=PLACE).splitlines():
        if line.startswith("#SBATCH"):
            assert len(line.split("  # ", 1)[1]) > 5, line


def test_values_from_people_are_quoted() -> None:
    text = render(LINKS["verify"], site=sim(environment={"X": "a; rm -rf $HOME"}, modules=["a b"]), place=PLACE)
    assert "export X='a; rm -rf $HOME'" in text
    assert "module load 'a b'" in text


def test_a_range_of_nodes_only_where_fewer_are_allowed() -> None:
    assert options(render(LINKS["train"], site=sim(), place=PLACE))["nodes"] == "2-4"
    fixed = Place(**vars(PLACE) | {"min_nodes": 4})
    assert options(render(LINKS["train"], site=sim(), place=fixed))["nodes"] == "4"


def test_arrays_are_throttled() -> None:
    link = Link(name="tokenize", purpose="x", arguments=("tokenize",), num_tasks=12)
    assert options(render(link, site=sim(array_limit=3), place=PLACE))["array"] == "0-11%3"
    assert "%A_%a" in options(render(link, site=sim(), place=PLACE))["output"]
