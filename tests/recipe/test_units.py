import pytest

from recipe.errors import ConfigError
from recipe.units import format_bytes, format_count, format_seconds, parse_bytes, parse_seconds, parse_tokens


def test_quantities_are_exact() -> None:
    assert parse_tokens("1.5T") == 1_500_000_000_000
    assert parse_tokens("3.93M") == 3_930_000
    assert parse_tokens(4096) == 4096
    assert parse_bytes("2GiB") == 2**31
    assert parse_bytes("100MB") == 10**8
    assert parse_seconds("4h") == 14400


@pytest.mark.parametrize("text", ["many", "-3B", "3 Q", "", "1.5", True])
def test_what_is_no_token_count_is_refused(text) -> None:
    with pytest.raises(ConfigError):
        parse_tokens(text)


def test_formats() -> None:
    assert (format_count(1.5e12), format_bytes(2**31), format_seconds(5400)) == ("1.5T", "2 GiB", "1h30m")
