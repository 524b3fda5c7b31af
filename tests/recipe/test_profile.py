"""`windtunnel profile` on a real run: one trace a rank with the steps in it, and the run as it was."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.recipe.runs import prepared


def test_a_trace_of_a_run_that_stays_as_it_is(home: Path, tmp_path: Path) -> None:
    run = prepared(home, "profiled", processes=1)
    before = sorted(path.relative_to(run.root) for path in run.root.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", "profile", str(run.root), "--steps", "2", "--out", str(tmp_path / "out")],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "aten::mm" in done.stdout
    trace = json.loads((tmp_path / "out" / "rank_00000.json").read_text())
    assert [event["name"] for event in trace["traceEvents"] if event.get("cat") == "user_annotation"].count("step") == 2
    assert sorted(path.relative_to(run.root) for path in run.root.rglob("*")) == before
