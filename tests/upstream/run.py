"""Runs upstream's unit tests of the patched modules without patches and with them; what passed must pass still.

python -m tests.upstream.run CHECKOUT [FILE...]

CHECKOUT is one of Megatron-LM at the installed megatron-core's version. Where it holds `megatron/core` too, that is what the
tests import, and the patches' fingerprints are held against it. Upstream's conftest.py is left out: it downloads data.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.upstream.upstream_plugin import PASSED, WITH

# Under tests/unit_tests; of the modules that `windtunnel patches` lists. A version has not all of them.
FILES = (
    "test_optimizer_param_scheduler.py", "test_optimizer.py", "optimizer/test_optimizer_config.py",
    "optimizer/test_clip_grads.py", "models/test_base_embedding.py", "models/test_gpt_model.py", "transformer/test_mup.py",
    "transformer/test_transformer_config.py", "transformer/test_rope.py", "fusions/test_bias_dropout_fusion.py",
    "tensor_parallel/test_random.py", "pipeline_parallel/test_schedules.py",
)  # fmt: skip
UNIT_TESTS = "tests/unit_tests/"
ROOT = Path(__file__).parents[2]
Outcomes = dict[str, str]  # file::test -> PASSED, or why not


def outcomes(checkout: Path, files: Sequence[str], patched_with: str) -> Outcomes:
    """Runs the files in one pytest of their own.

    Raises:
        RuntimeError: pytest itself failed, as it does where a patch doesn't fit the installed version.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for ours in (Path(__file__).with_name("upstream_plugin.py"), ROOT / "megatron_patches"):
            (path / ours.name).symlink_to(ours)  # these two on the path, and not our `tests`
        command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={checkout}", "--noconftest"]
        command += ["-p", "no:cacheprovider", "-p", "upstream_plugin", "--continue-on-collection-errors"]
        command += [f"--patched-with={patched_with}", f"--outcomes={path / 'outcomes'}", *(UNIT_TESTS + file for file in files)]
        done = subprocess.run(
            command, cwd=checkout, env={**os.environ, "PYTHONPATH": folder}, capture_output=True, text=True, check=False
        )
        if not (path / "outcomes").is_file():
            raise RuntimeError(f"pytest ended with {done.returncode}:\n{(done.stderr or done.stdout)[-4000:]}")
        found = json.loads((path / "outcomes").read_text(encoding="utf-8"))
    return {name.removeprefix(UNIT_TESTS): said for name, said in found.items()}


def broken(before: Outcomes, after: Outcomes) -> Outcomes:
    """Tests that passed without patches and don't with them."""
    return {name: after.get(name, "not run") for name, said in before.items() if said == PASSED != after.get(name)}


def told(found: dict[str, Outcomes]) -> str:
    """A row a file, then every test that doesn't pass everywhere."""
    plain = found["nothing"]
    lines = [f"{'passed, patched with':40s}" + "".join(f"{name:>14s}" for name in found)]
    for file in dict.fromkeys(name.partition("::")[0] for name in plain):
        of = [[said for name, said in some.items() if name.partition("::")[0] == file] for some in found.values()]
        lines.append(f"{file:40s}" + "".join(f"{f'{one.count(PASSED)} of {len(one)}':>14s}" for one in of))
    for name, said in plain.items():
        better = [mode for mode, some in found.items() if some.get(name) == PASSED]
        if len(better) < len(found):
            lines.append(f"  {name}: {said[:100]}" + (f" (passes with {', '.join(better)})" if better else ""))
    return "\n".join(lines)


def main() -> int:
    """Command line; 1 where a patch broke a test."""
    if len(sys.argv) < 2 or not (Path(sys.argv[1]) / UNIT_TESTS).is_dir():
        print(f"{__doc__}\nno {UNIT_TESTS} in CHECKOUT: {sys.argv[1:]}", file=sys.stderr)
        return 2
    checkout, asked = Path(sys.argv[1]).resolve(), sys.argv[2:] or FILES
    files = [file for file in asked if (checkout / UNIT_TESTS / file).is_file()]
    if absent := [file for file in asked if file not in files]:
        print("not in this checkout: " + ", ".join(absent))
    found = {mode: outcomes(checkout, files, mode) for mode in WITH}
    print(told(found))
    wrong = [(name, mode, said) for mode, some in found.items() for name, said in broken(found["nothing"], some).items()]
    for name, mode, said in wrong:
        print(f"BROKEN: {name}, by {mode}: {said}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
