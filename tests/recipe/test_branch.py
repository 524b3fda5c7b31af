"""Decay branches: what they may change, and that the stable run stays as it is."""

import hashlib
from pathlib import Path

import pytest

from megatron_patches.errors import PatchError
from recipe.branch import create_branch
from recipe.config import RunConfig
from recipe.errors import RunError
from recipe.load import load_recipe
from recipe.lower import mup_rows
from recipe.prepare import create_run, load_resolved
from recipe.rundir import RunDir, write_text
from tests.recipe.runs import finish, prepared, trace

AT = 2048


def changed(run: RunDir, *overrides: str) -> RunConfig:
    return load_recipe(str(run.recipe), list(overrides))


@pytest.fixture(scope="module")
def at_a_checkpoint(home: Path) -> RunDir:
    """Not trained: a branch is refused or made by what the checkpoint is called, before anything is read of it."""
    run = prepared(home, "branched", processes=1)
    write_text(run.checkpoints / f"stable-{AT:015d}" / "manifest.json", "{}")
    return run


def test_a_changed_decay_is_refused_in_the_run_itself(at_a_checkpoint: RunDir, home: Path) -> None:
    run = at_a_checkpoint
    with pytest.raises(RunError, match=r"stages\.1\.tokens: 1024 → 512") as refused:
        create_run(changed(run, "stages.decay.tokens=512"), run.root, world_size=1, data_dir=home / "data")
    assert "stages.0" not in str(refused.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optim.warmup_tokens=1024", "warmup_tokens: checkpoint 512, now 1024"),
        ("stages.stable.lr.shape=cosine", r"stages\[0\]: checkpoint .*'decay': None.*, now .*cosine"),
    ],
)
def test_a_branch_changes_nothing_behind_its_checkpoint(at_a_checkpoint: RunDir, home: Path, override: str, told: str) -> None:
    with pytest.raises(PatchError, match=told):
        create_branch(
            at_a_checkpoint, changed(at_a_checkpoint, override), at_tokens=AT, name="bad", world_size=1, data_dir=home / "data"
        )
    assert not (at_a_checkpoint.branches / "bad").exists()


def test_branches_have_length_shape_and_mixture_of_their_own(at_a_checkpoint: RunDir, home: Path) -> None:
    run = at_a_checkpoint
    ours = ("stages.decay.tokens=512", "stages.decay.lr={shape: half_life, half_life_tokens: 128}")
    branch = create_branch(run, changed(run, *ours), at_tokens=AT, name="short", world_size=1, data_dir=home / "data")
    resolved = load_resolved(branch)
    assert [(stage.name, stage.end_tokens) for stage in resolved.stages] == [("stable", AT), ("decay", AT + 512)]
    assert resolved.config.stages[1].lr.half_life_tokens == 128
    assert resolved.branch is not None
    assert Path(resolved.branch.parent) == run.root.absolute()
    with pytest.raises(RunError, match=rf"no checkpoint at 1024 tokens; there are: {AT}"):
        create_branch(run, changed(run), at_tokens=1024, name="none", world_size=1, data_dir=home / "data")


def test_a_branch_keeps_the_values_that_its_run_carried_over(home: Path) -> None:
    """A branch is shorter than its run, and the rule for batch and duration counts the run's duration."""
    bases = ["mup.batch_tokens_base=128", "mup.duration_tokens_base=2048", "stages.stable.batch=null"]
    run = prepared(home, "carried", processes=1, overrides=bases)
    write_text(run.checkpoints / f"stable-{AT:015d}" / "manifest.json", "{}")
    ours = ("stages.decay.tokens=512",)
    branch = create_branch(run, changed(run, *ours), at_tokens=AT, name="short", world_size=1, data_dir=home / "data")
    parent, left = load_resolved(run), load_resolved(branch)
    assert left.total_tokens < parent.total_tokens == 4096
    assert mup_rows(left.config) == mup_rows(parent.config)
    assert mup_rows(left.config)["bias"]["step_mult"] == 2 / 2
    assert left.identity()["mup"] == parent.identity()["mup"]


@pytest.mark.slow
def test_a_branch_goes_on_from_the_checkpoint_and_leaves_the_run_alone(home: Path) -> None:
    run = prepared(home, "stable", processes=1, overrides=["checkpoint.keep_every_tokens=1024"])
    finish(run, processes=1)
    before, stable = _files(run), trace(run)
    ours = ("stages.decay.tokens=512", "stages.decay.lr={shape: half_life, half_life_tokens: 256}")
    branch = create_branch(run, changed(run, *ours), at_tokens=AT, name="early", world_size=1, data_dir=home / "data")
    finish(branch, processes=1)
    steps = trace(branch)
    left = next(row for row in stable if row[-1] == AT)
    assert steps[0][0] == left[0] + 1
    assert steps[0][1] == stable[steps[0][0]][1]  # the same weights and the next samples: the step differs in its lr alone
    assert [row[3] for row in steps] == pytest.approx([0.005, 0.0025])  # a half-life each step of 256 tokens
    assert _files(run) == before


def _files(run: RunDir) -> dict[str, str]:
    """Digest of every file of a run but its branches."""
    paths = (path for path in run.root.rglob("*") if path.is_file() and run.branches not in path.parents)
    return {str(path.relative_to(run.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
