"""Names and numbers of signals."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from containerkit.errors import ConfigError
from containerkit.model.signals import signal_number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("TERM", 15),
        ("sigkill", 9),
        ("15", 15),
        (signal.SIGUSR1, 10),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmax-1", 63),
        (36, 36),
        (64, 64),
    ],
)
def test_what_is_one(value: str | int, number: int) -> None:
    found = signal_number(value)
    assert (found, type(found)) == (number, int)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "X",
        "SIG",
        "SIGSIGTERM",
        "RTMIN-1",
        "RTMAX+1",
        "RTMIN+31",
        "RTMAX-40",
        "RTMIN+",
        "RTMIN++3",
    ],
)
def test_what_is_none(value: str) -> None:
    with pytest.raises(ConfigError, match="is not a signal"):
        signal_number(value)


@pytest.mark.parametrize("value", [0, -1, 32, 65, 1.5, None, b"TERM"])
def test_what_is_no_number_of_one(value: Any) -> None:
    with pytest.raises(ConfigError, match="is not a signal"):
        signal_number(value)
