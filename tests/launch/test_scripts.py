"""The plain scripts: each trains the smallest model with its ZeRO stage, by DeepSpeed's launcher here, by srun on a cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recipe.prepare import load_resolved
from recipe.rundir import RunDir, read_json, read_jsonl
from tests.launch.slurm.smallest import smallest_recipe, write_corpus

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "launch" / "scripts"
STEPS = 12


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    config = smallest_recipe(write_corpus(tmp_path / "code.jsonl"), num_steps=STEPS)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=True)))
    return path


def environment(**more: str) -> dict[str, str]:
    """`python` and `deepspeed` are those of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return dict(os.environ, PATH=path, PYTHONPATH=str(ROOT), DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", **more)


def check(run: RunDir, *, zero: int) -> None:
    assert read_json(run.deepspeed)["zero_optimization"]["stage"] == zero
    assert load_resolved(run).layout.world_size == 2
    losses = [line["loss"] for line in read_jsonl(run.metrics)]
    assert len(losses) == STEPS
    assert losses[-1] < losses[0]
    assert [read_json(path / "exit.json")["exit_code"] for path in run.attempt_dirs()] == [0]


@pytest.mark.slow
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_by_deepspeed(zero: int, recipe: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(SCRIPTS / f"deepspeed_zero{zero}.sh"), str(recipe), str(tmp_path / "run"), "2"], cwd=tmp_path,
        env=environment(), capture_output=True, text=True, timeout=200,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    check(RunDir(tmp_path / "run"), zero=zero)
