"""Quantities with their units, as recipes write them: "1.5T" tokens, "2GiB", "4h".

Counts use powers of ten (K M B T), bytes both kinds (GB and GiB). Every function raises `ConfigError` with an example.
"""

import re
from decimal import Decimal, InvalidOperation

from recipe.errors import ConfigError

_COUNT = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_BYTES = {"B": 1, "": 1} | {
    prefix + suffix: base**power
    for base, suffix in ((1000, "B"), (1024, "iB"))
    for power, prefix in enumerate("KMGTP", start=1)
}
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_NUMBER = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*$")


def _parse(text: str | int | float, *, units: dict[str, int], what: str, example: str) -> Decimal:
    if isinstance(text, bool):
        raise ConfigError(f"{text!r} is not {what}; write it like {example}")
    match = _NUMBER.match(str(text))
    if match is None or match[2] not in units:
        raise ConfigError(f"{text!r} is not {what}; write it like {example}")
    try:
        return Decimal(match[1].replace("_", "")) * units[match[2]]
    except InvalidOperation as error:
        raise ConfigError(f"{text!r} is not {what}; write it like {example}") from error


def _whole(value: Decimal, text: object, *, what: str) -> int:
    if value != value.to_integral_value():
        raise ConfigError(f"{text!r} is not a whole number of {what}")
    return int(value)


def parse_tokens(text: str | int | float) -> int:
    """"1.5T" → 1_500_000_000_000 tokens."""
    return _whole(_parse(text, units=_COUNT, what="a number of tokens", example="30B, 3.5M or 4096"), text, what="tokens")


def parse_bytes(text: str | int | float) -> int:
    """"2GiB" → 2_147_483_648 bytes."""
    return _whole(_parse(text, units=_BYTES, what="a size", example="2GiB or 500MB"), text, what="bytes")


def parse_seconds(text: str | int | float) -> float:
    """"4h" → 14400.0 seconds."""
    return float(_parse(text, units=_SECONDS, what="a duration", example="90s, 30m, 4h or 2d"))


def format_count(value: float) -> str:
    """1_500_000_000 → "1.5B"."""
    for name, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g}{name}"
    return f"{value:.4g}"


def format_bytes(value: float) -> str:
    """2_147_483_648 → "2 GiB"."""
    for name, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= size:
            return f"{value / size:.4g} {name}"
    return f"{value:.0f} B"


def format_seconds(value: float) -> str:
    """5400.0 → "1h30m"."""
    whole = round(value)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    if minutes:
        return f"{minutes}m{seconds:02d}s"
    return f"{value:.3g}s"
