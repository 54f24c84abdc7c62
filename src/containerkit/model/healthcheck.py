"""The command that tells whether a container works, and how often it is asked.

Owns the `Healthcheck` value and what an image's HEALTHCHECK means as one.  Must not run anything:
`launch.health` compiles it, the launcher keeps the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from os import PathLike, fspath
from typing import TYPE_CHECKING, Final, Self

import attrs

from containerkit.errors import ConfigError

if TYPE_CHECKING:
    from containerkit.model.image_config import ImageConfig, ImageHealthcheck

Seconds = float | timedelta

# The launcher keeps times in 32 bits of milliseconds, the count of failures in 16 bits.
_LONGEST: Final = (1 << 32) // 1000 - 1
_RETRIES_MAX: Final = (1 << 16) - 1
_NANOSECONDS: Final = 10**9
_LEAST: Final = 0.001  # Docker takes nothing below
LEAST_OF_IMAGE: Final = 1.0
"""Seconds between probes of an image's own accord: each costs the launcher, and a change of mind a line
of the root's events, which no limit of the container counts."""


def _seconds(what: str, value: Seconds, least: float) -> float:
    seconds: object = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds):
        raise ConfigError(f"healthcheck {what}: {value!r} is not a number of seconds")
    if not least <= seconds <= _LONGEST:
        raise ConfigError(
            f"healthcheck {what}: {value!r} is not from {least} to {_LONGEST} seconds"
        )
    return float(seconds)


# One function a field: type checkers read what a field takes from its converter.


def _interval(value: Seconds) -> float:
    return _seconds("interval", value, _LEAST)


def _timeout(value: Seconds) -> float:
    return _seconds("timeout", value, _LEAST)


def _start_period(value: Seconds) -> float:
    return _seconds("start_period", value, 0)


def _start_interval(value: Seconds) -> float:
    return _seconds("start_interval", value, _LEAST)


def _retries(value: int) -> int:
    given: object = value
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= _RETRIES_MAX:
        raise ConfigError(f"healthcheck retries: {value!r} is not from 1 to {_RETRIES_MAX}")
    return value


def _command(value: str | Sequence[str | PathLike[str]] | None) -> str | tuple[str, ...] | None:
    if value is None:
        return None
    command = value if isinstance(value, str) else tuple(fspath(word) for word in value)
    if not command or not all(isinstance(word, str) for word in command) or not command[0]:
        raise ConfigError(
            f"healthcheck command: {value!r} names no program",
            hint="Healthcheck.none() says that there is to be no check",
        )
    if "\0" in "".join(command):
        raise ConfigError("healthcheck command: it holds a NUL character")
    return command


@attrs.frozen
class Healthcheck:
    """A command run inside the container, again and again; code 0 means that it works.

    Args:
        command: words, or one text for the image's shell; None: no check, as `Healthcheck.none`.
        interval: seconds from the end of one probe to the next.
        timeout: seconds after which a probe is killed, and has failed.
        start_period: seconds after the start in which failures do not count.
        start_interval: seconds between probes as long as the start period lasts and none passed.
        retries: failures in a row after which the container is unhealthy.

    Raises:
        ConfigError: a value without meaning.
    """

    command: str | tuple[str, ...] | None = attrs.field(converter=_command)
    interval: float = attrs.field(default=30.0, converter=_interval, kw_only=True)
    timeout: float = attrs.field(default=30.0, converter=_timeout, kw_only=True)
    start_period: float = attrs.field(default=0.0, converter=_start_period, kw_only=True)
    start_interval: float = attrs.field(default=5.0, converter=_start_interval, kw_only=True)
    retries: int = attrs.field(default=3, converter=_retries, kw_only=True)

    @classmethod
    def none(cls) -> Self:
        """No check, whatever the image says."""
        return cls(None)

    def to_image(self) -> ImageHealthcheck:
        """Return it as an image says it; `of_image` reads that again."""
        from containerkit.model.image_config import ImageHealthcheck

        if self.command is None:
            return ImageHealthcheck(("NONE",), None, None, None, None, None)
        shell = isinstance(self.command, str)
        words = (self.command,) if isinstance(self.command, str) else self.command
        return ImageHealthcheck(
            ("CMD-SHELL" if shell else "CMD", *words),
            round(self.interval * _NANOSECONDS),
            round(self.timeout * _NANOSECONDS),
            round(self.start_period * _NANOSECONDS),
            round(self.start_interval * _NANOSECONDS),
            self.retries,
        )

    @classmethod
    def of_image(cls, found: ImageHealthcheck | None) -> Self | None:
        """Return what an image's own check means, at most one a second; 0 or nothing is a default.

        Spec: Docker Image Specification v1.3, Healthcheck; times there are nanoseconds.
        """
        if found is None or found.test[:1] == ("NONE",):
            return None
        command: str | tuple[str, ...] = found.test[1:]
        if found.test[0] == "CMD-SHELL":
            command = found.test[1] if len(found.test) == 2 else " ".join(found.test[1:])
        if not command or not command[0]:
            return None
        times = {
            "interval": found.interval_ns,
            "timeout": found.timeout_ns,
            "start_period": found.start_period_ns,
            "start_interval": found.start_interval_ns,
        }
        # An image is not refused for what it can not mean.
        given = {
            name: min(max(value / _NANOSECONDS, _least(name)), _LONGEST)
            for name, value in times.items()
            if value
        }
        return cls(command, **given, retries=min(found.retries or 3, _RETRIES_MAX))


def _least(name: str) -> float:
    return LEAST_OF_IMAGE if name in {"interval", "start_interval"} else _LEAST


def effective(option: object, image: ImageConfig) -> Healthcheck | None:
    """Return the check that a container has: the option, else the image's own, else None.

    Args:
        option: the value of the option ``healthcheck``: a `Healthcheck`, a command, or None.
        image: the image's config.

    Raises:
        ConfigError: the option is none of these.
    """
    if option is None:
        return Healthcheck.of_image(image.healthcheck)
    check = of_option(option)
    return None if check.command is None else check


def of_option(option: object) -> Healthcheck:
    """Return the check that the option ``healthcheck`` stands for, also one that says there is none.

    Raises:
        ConfigError: it is neither a `Healthcheck` nor a command.
    """
    if isinstance(option, str | tuple | list):
        return Healthcheck(option)
    if not isinstance(option, Healthcheck):
        raise ConfigError(
            f"healthcheck is {type(option).__name__}, neither a Healthcheck nor a command"
        )
    return option
