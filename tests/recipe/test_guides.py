"""The guides' commands: each exists with its options; and (slow) each runs, in the order of the guides, on real text."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from launch.cli import COMMANDS, build

GUIDES = Path(__file__).parents[2] / "recipe" / "guides"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(guide: Path) -> list[tuple[str, str, str]]:
    """(language, name, text) of each fenced block."""
    return BLOCK.findall(guide.read_text(encoding="utf-8"))


def commands(guide: Path) -> list[list[str]]:
    """The words of each `$ windtunnel …` line."""
    lines = [line for language, _, text in blocks(guide) if language == "console" for line in text.splitlines()]
    assert all(line.startswith("$ windtunnel ") for line in lines), guide
    return [shlex.split(line)[2:] for line in lines]


ORDER = [*sorted(GUIDES.glob("[0-9]*.md")), GUIDES / "xmodel-2.md"]
EVERY = [(guide.name, words) for guide in ORDER for words in commands(guide)]


@pytest.mark.parametrize(("guide", "words"), EVERY, ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60])
def test_each_command_exists_with_these_options(guide: str, words: list[str]) -> None:
    command = typer.main.get_command(build()).commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], list(words[1:]), resilient_parsing="--help" in words)  # raises for what it doesn't know


def test_every_guide_is_linked_and_every_link_leads_somewhere() -> None:
    text = (GUIDES / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)]+)\)", text))
    assert linked == {path.name for path in GUIDES.glob("*.md")} - {"README.md"}
    root = GUIDES.parents[1]
    files = re.compile(r"`((?:recipe|launch|data_prep|megatron_patches|tests)/[\w/.-]+)`")
    named = {name for path in GUIDES.glob("*.md") for name in files.findall(path.read_text(encoding="utf-8"))}
    assert not [name for name in named if not (root / name).exists()]


def test_commands_that_text_names_exist() -> None:
    known = {name for _, name, _ in COMMANDS}
    for guide in GUIDES.glob("*.md"):
        for name in re.findall(r"`windtunnel ([a-z-]+)", guide.read_text(encoding="utf-8")):
            assert name in known, (guide.name, name)


def write_corpus(folder: Path) -> None:
    """Python's own sources as JSON lines, and sums as instruction data."""
    (folder / "corpus").mkdir()
    (folder / "sft").mkdir()
    library = Path(os.__file__).parent
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(library.glob("*.py"))[:120]]
    pieces = [text[start : start + 3000] for text in texts for start in range(0, len(text), 3000)]
    (folder / "corpus" / "python.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in pieces))
    sums = [{"prompt": f"What is {a} + {b}?", "response": f"It is {a + b}."} for a in range(60) for b in range(60)]
    (folder / "sft" / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))


@pytest.mark.slow
def test_the_guides_from_beginning_to_end(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    failed = []
    for guide in ORDER:
        for language, name, text in blocks(guide):
            if language == "yaml":
                (tmp_path / name).write_text(text)
                continue
            for words in (shlex.split(line)[2:] for line in text.splitlines()):
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", "-m", "launch.cli", *words], cwd=tmp_path, capture_output=True, text=True,
                    env=os.environ | {"PYTHONPATH": str(GUIDES.parents[1]), "OMP_NUM_THREADS": "1"}, timeout=400, check=False,
                )
                if done.returncode:
                    failed.append(f"{guide.name}: windtunnel {' '.join(words)}: {done.returncode}\n{done.stderr[-800:]}")
    assert not failed, "\n\n".join(failed)
