"""`windtunnel status --tree`: runs with the decays that left them, in order of where they left."""

import json
from pathlib import Path

from launch.commands.status import status
from recipe.resolve import BranchRef
from recipe.rundir import RunDir, write_json
from tests.launch.tiny_run import tiny_run


def branch(run: RunDir, name: str, *, at_tokens: int, decay_tokens: int) -> None:
    stages = [
        {"name": "stable", "tokens": at_tokens, "mixture": {"docs": 100}},
        {"name": "decay", "tokens": decay_tokens, "mixture": {"docs": 100}, "lr": {"shape": "linear"}},
    ]
    made, resolved = tiny_run(run.branches / name, stages=stages)
    reference = BranchRef(parent=str(run.root), checkpoint=str(run.checkpoints / "stable-0"), at_tokens=at_tokens)
    write_json(made.resolved, resolved.model_copy(update={"branch": reference}).model_dump(mode="json"))


def test_branches_stand_below_their_run(tmp_path: Path, capsys) -> None:
    run, _resolved = tiny_run(tmp_path / "base")
    branch(run, "late", at_tokens=1280, decay_tokens=320)
    branch(run, "early", at_tokens=640, decay_tokens=128)
    branch(RunDir(run.branches / "early"), "again", at_tokens=704, decay_tokens=64)
    status(run=str(run.root), tree=True)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "base, stable 1.6K constant, decay 320 constant, prepared"
    assert [line.lstrip("├└─│ ") for line in lines[1:]] == [
        "early, from 640 tokens, decay 128 linear, prepared",
        "again, from 704 tokens, decay 64 linear, prepared",
        "late, from 1.28K tokens, decay 320 linear, prepared",
    ]
    status(run=str(run.root), tree=True, as_json=True)
    (found,) = json.loads(capsys.readouterr().out)
    assert {one["at_tokens"] for one in found["branches"]} == {640, 1280}
    assert next(one for one in found["branches"] if one["at_tokens"] == 640)["branches"][0]["at_tokens"] == 704
