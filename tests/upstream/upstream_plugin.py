"""A pytest plugin for upstream's tests: a world of one process where there is no GPU, and our patches in force or not.

`run.py` loads it by this name alone, as the checkout's tests are in a package called `tests` too.
"""

import json
import os
from pathlib import Path
from typing import Any

import megatron_patches
from megatron_patches.cpu.world import single_process_world
from megatron_patches.mup.rules import Mup

WITH: dict[str, dict[str, Any] | None] = {
    "nothing": None,
    "platform": {},  # what a machine without a GPU needs; nothing where there is one
    # The muP table is for one size of model: upstream's tests of GPTModel, which want Transformer Engine, would be refused.
    "everything": {"attention": "sdpa", "wsd": True, "mup": Mup("standard")},
}
PASSED = "passed"
_outcomes: dict[str, str] = {}  # test -> PASSED, or why not


def pytest_addoption(parser: Any) -> None:
    """Which patches, and the file for what came out."""
    parser.addoption("--patched-with", choices=tuple(WITH), default="nothing")
    parser.addoption("--outcomes", type=Path, required=True)


def pytest_configure(config: Any) -> None:
    """Before upstream's tests import anything of megatron."""
    import torch

    os.environ.setdefault("LOCAL_RANK", "0")  # upstream's helpers read it at import
    options = WITH[config.getoption("--patched-with")]
    if options is not None:
        megatron_patches.apply(**options)
    if not torch.cuda.is_available():
        single_process_world()


def pytest_collectreport(report: Any) -> None:
    """A file that can't be imported."""
    if report.failed:
        _outcomes[report.nodeid] = _why(report)


def pytest_runtest_logreport(report: Any) -> None:
    """A test has ended, or failed before or after."""
    if report.when == "call" or not report.passed:
        _outcomes[report.nodeid] = PASSED if report.passed else _why(report)


def _why(report: Any) -> str:
    if report.skipped:
        return str(report.longrepr[2])
    errors = [line[1:].strip() for line in report.longreprtext.splitlines() if line.startswith("E ")]
    return errors[0] if errors else report.longreprtext.strip().splitlines()[-1]


def pytest_sessionfinish(session: Any) -> None:
    """Writes the outcomes."""
    session.config.getoption("--outcomes").write_text(json.dumps(_outcomes), encoding="utf-8")
