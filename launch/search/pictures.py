"""Figures of studies: one way of making and writing them."""

from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#3b7dd8", "#d9822b", "#888888"


def figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(drawn: "Figure", path: Path) -> None:
    """A PNG, whole or not at all."""
    with replacing(path) as file:
        drawn.savefig(file, format="png", dpi=110)
