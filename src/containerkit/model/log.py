"""What is kept of a container's output.

Owns the value `Log`, the option ``log`` of a container.  Must not: know where a log lies or what it
looks like (`stdio` does).
"""

from __future__ import annotations

from typing import Final, Self

import attrs

from containerkit.errors import ConfigError
from containerkit.model.limits import parse_size

SIZE_LEAST: Final = 128 << 10
"""Bytes: two of the largest records."""

FILES_MOST: Final = 1000


def _size(value: int | str) -> int:
    size = parse_size(value, what="max_size")
    if size and size < SIZE_LEAST:
        raise ConfigError(f"a log's max_size of {size} bytes is below {SIZE_LEAST}")
    return size


def _files(_log: object, _field: object, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= FILES_MOST:
        raise ConfigError(f"a log's max_files {value!r} is not from 1 to {FILES_MOST}")


@attrs.frozen
class Log:
    """How much of a container's output is kept: the last *max_files* files of *max_size* each.

    Args:
        max_size: of one file: bytes, or a text such as "16MiB"; at least 128 KiB; 0 keeps nothing.
        max_files: the present one and those before it.
    """

    max_size: int = attrs.field(default=16 << 20, converter=_size)
    max_files: int = attrs.field(default=4, validator=_files)

    @classmethod
    def none(cls) -> Self:
        """Keep nothing: output is read and dropped, so that the container never waits."""
        return cls(max_size=0, max_files=1)


def log_of(value: object) -> Log:
    """Return the value of the option ``log``: True and None for the default, False for none.

    Raises:
        ConfigError: it is something else.
    """
    if value is None or value is True:
        return Log()
    if value is False:
        return Log.none()
    if not isinstance(value, Log):
        raise ConfigError(f"log {value!r} is no Log", hint='as Log(max_size="64MiB"), or False')
    return value
