"""Signals by name or number.

Owns what callers may call one.  Must not: send any.
"""

from __future__ import annotations

import signal as signals

from containerkit.errors import ConfigError


def signal_number(value: str | int) -> int:
    """Return the number of a signal given by name or number.

    Raises:
        ConfigError: there is none such.
    """
    try:
        if isinstance(value, int):
            return signals.Signals(value).value
        if value.isdecimal():
            return signals.Signals(int(value)).value
        name = value.upper()
        return signals.Signals[name if name.startswith("SIG") else f"SIG{name}"].value
    except (KeyError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{value!r} is not a signal", hint='as "TERM", "SIGKILL" or 15'
        ) from error
