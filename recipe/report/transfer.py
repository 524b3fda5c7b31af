"""The kept transfer study on the page: its pictures, drawn by `make transfer`, and what they say."""

from dataclasses import dataclass
from pathlib import Path

from recipe.report.images import address
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
        Picture(title, address(folder / f"{part}.svg"), summary["verdicts"].get(part, []))
        for part, title in summary["titles"].items()
        if (folder / f"{part}.svg").is_file()
    ]
