"""Options that name sources."""

from collections.abc import Callable, Sequence
from typing import Any

from launch.search.errors import SearchError


def by_source(
    option: str, texts: Sequence[str], sources: Sequence[str], *, parse: Callable[[str], float] = float
) -> dict[str, Any]:
    """`source=number` by source; raises `SearchError` naming the sources that there are."""
    values = {}
    for text in texts:
        source, _, number = text.partition("=")
        if source not in sources:
            raise SearchError(f"{option} {text!r}: no source {source!r} in the stages; there are: {', '.join(sources)}")
        try:
            values[source] = parse(number)
        except ValueError as error:
            raise SearchError(f"{option} {text!r}: write source=number") from error
        if values[source] <= 0:
            raise SearchError(f"{option} {text!r}: the number must be above 0")
    return values
