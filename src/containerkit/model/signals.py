"""Signals by name or number.

Owns what callers may call one.  Must not: send any.
"""

from __future__ import annotations

import signal as signals

from containerkit.errors import ConfigError


def signal_number(value: str | int) -> int:
    """Return the number of a signal given by name or number; "RTMIN+3" is a name too.

    Raises:
        ConfigError: there is none such.

    Spec: signal(7), Real-time signals.
    """
    try:
        if isinstance(value, int):
            return _valid(value)
        if value.isdecimal():
            return _valid(int(value))
        return _named(value.upper().removeprefix("SIG"))
    except (KeyError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{value!r} is not a signal", hint='as "TERM", "SIGKILL" or 15'
        ) from error


def _named(name: str) -> int:
    base, sign = name[:5], name[5:6]
    if (base, sign) in (("RTMIN", "+"), ("RTMAX", "-")) and name[6:].isdecimal():
        number = int(signals.Signals[f"SIG{base}"]) + int(name[5:])
        return _valid(number if number >= signals.SIGRTMIN else 0)
    return signals.Signals[f"SIG{name}"].value


def _valid(number: int) -> int:
    if number not in signals.valid_signals():
        raise ValueError(number)
    return int(number)
