"""The kept transfer study on the page: its pictures, drawn by `make transfer`, and what they say."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from recipe.rundir import read_json

STUDY = Path(__file__).parents[1] / "studies" / "transfer"


@dataclass(frozen=True)
class Picture:
    """One question: title, the picture as a data address, and the verdicts as sentences."""

    title: str
    source: str
    verdicts: list[str]


def transfer_pictures(folder: Path = STUDY) -> list[Picture]:
    """The study's pictures; empty where there is none."""
    if not (folder / "summary.json").is_file():
        return []
    summary = read_json(folder / "summary.json")
    return [
        Picture(title, _address(folder / f"{part}.svg"), summary["verdicts"].get(part, []))
        for part, title in summary["titles"].items()
        if (folder / f"{part}.svg").is_file()
    ]


def _address(path: Path) -> str:
    return "data:image/svg+xml;base64," + b64encode(path.read_bytes()).decode("ascii")
