"""The house's rules: imports go one way, what only decides needs no torch, commands exist, help is complete."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "data_prep": {"data_prep"},
    "megatron_patches": {"megatron_patches"},
    "recipe": {"data_prep", "megatron_patches", "recipe"},
    "launch": {"data_prep", "megatron_patches", "recipe", "launch"},
}
TORCH_FREE = [
    "data_prep.binarize", "data_prep.verify", "data_prep.dedup", "megatron_patches.mup.rules", "megatron_patches.wsd.schedule",
    "megatron_patches.catalog", "recipe.config", "recipe.load", "recipe.resolve", "recipe.lower", "recipe.stream",
    "recipe.prepare", "recipe.data", "launch.cli", "launch.cluster", "launch.slurm.render", "launch.slurm.submit",
    "launch.plan.search", "launch.status",
]


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names & set(MAY_IMPORT) | ({"tests"} & names)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room: str) -> None:
    files = (ROOT / room).rglob("*.py")
    wrong = {str(path.relative_to(ROOT)): bad for path in files if (bad := _imported(path) - MAY_IMPORT[room])}
    assert not wrong


@pytest.mark.parametrize("module", TORCH_FREE)
def test_what_only_decides_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_listed_command_is_there_and_shows_an_example() -> None:
    from launch.cli import COMMANDS, function_of

    listed = {function_of(name) for _, name, _ in COMMANDS}
    files = {path.stem for path in (ROOT / "launch" / "commands").glob("*.py")} - {"__init__"}
    assert listed == files
    for name in listed:
        command = getattr(import_module(f"launch.commands.{name}"), name)
        assert "Example:" in (command.__doc__ or ""), name


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for room in MAY_IMPORT
        for path in (ROOT / room).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long
