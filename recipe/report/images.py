"""Pictures that others drew, inside the page."""

from base64 import b64encode
from pathlib import Path


def address(path: Path) -> str:
    """An SVG file as a data address."""
    return "data:image/svg+xml;base64," + b64encode(path.read_bytes()).decode("ascii")
