"""Sizes: a grammar with one meaning."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import ConfigError
from containerkit.model.limits import parse_size

UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


@given(
    st.integers(0, 4000),
    st.none() | st.integers(0, 999),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["", "b", "ib", "B", "iB"]),
    st.booleans(),
)
def test_sizes_are_exact_and_rounded_down(
    whole: int, fraction: int | None, unit: str, suffix: str, upper: bool
) -> None:
    suffix = "" if unit in {"", "b"} else suffix
    number = str(whole) if fraction is None else f"{whole}.{fraction}"
    text = f"{number}{unit.upper() if upper else unit}{suffix}"
    assert parse_size(text) == int(Fraction(number) * (1 << UNITS[unit]))


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_an_error(text: str) -> None:
    try:
        size = parse_size(text)
    except ConfigError:
        return
    assert 0 <= size < 1 << 63
    assert text[0] in "0123456789"
