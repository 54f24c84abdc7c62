"""When a container that was started counts as ready.

Owns the `Ready` value and its grammar.  Must not look at a container; `runtime.ready` does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import attrs

from containerkit.errors import ConfigError

_PORT: Final = re.compile(r"([0-9]{1,5})(?:/(tcp|udp))?", re.ASCII)


class Port(NamedTuple):
    """A port inside a container."""

    number: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


class Http(NamedTuple):
    """A request made inside a container's network.

    Attributes:
        host: goes into the header Host; the connection goes to the container itself.
        port: 1 to 65535.
        path: with its query.
    """

    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}{self.path}"


def parse_port(value: int | str) -> Port:
    """Return the port named by a number, or a text such as "53/udp".

    Raises:
        ConfigError: there is no such port.
    """
    match = None if isinstance(value, bool) else _PORT.fullmatch(str(value))
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise ConfigError(f"port {value!r} is not from 1 to 65535", hint='as 6379 or "53/udp"')
    return Port(int(match[1]), match[2] or "tcp")


def parse_http(value: str, port: Port | None) -> Http:
    """Return the request named by an URL, or by a path beside a port.

    Args:
        value: "http://localhost:8080/health", ":8080/health", or "/health" with *port*.
        port: the condition's own port, used where *value* has none.

    Raises:
        ConfigError: it is none of these.
    """
    text = str(value)
    if text.startswith(":"):
        text = f"http://localhost{text}"
    elif text.startswith("/"):
        text = f"http://localhost:{port.number if port else 80}{text}"
    try:
        parts = urlsplit(text)
        number = parts.port or (port.number if port else 80)
    except ValueError:
        parts, number = urlsplit(""), 0
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    plain = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme != "http" or not parts.hostname or parts.username is not None or not plain:
        raise ConfigError(
            f"http {value!r} is not an address to ask",
            hint='as "http://localhost:8080/health", ":8080/health", or "/health" beside port=8080',
        )
    return Http(parts.hostname, number, target)


def _port(value: Port | int | str | None) -> Port | None:
    if value is None or isinstance(value, Port):  # attrs.evolve hands the converted value back
        return value
    return parse_port(value)


def _log(value: str | re.Pattern[str] | None) -> re.Pattern[str] | None:
    if value is None:
        return None
    try:
        found = re.compile(value)
    except (re.error, TypeError) as error:
        raise ConfigError(f"log {value!r} is not a regular expression: {error}") from error
    if not isinstance(found.pattern, str):
        raise ConfigError("log is a pattern of bytes; lines are matched as text")
    return found


def _times(value: int) -> int:
    given: object = value
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigError(f"times {value!r} is not a count from 1 on")
    return value


def _command(value: str | Sequence[str | PathLike[str]] | None) -> str | tuple[str, ...] | None:
    if value is None:
        return None
    command = value if isinstance(value, str) else tuple(fspath(word) for word in value)
    if not command:
        raise ConfigError("command is empty")
    return command


def _seconds(what: str, value: object, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ConfigError(f"{what} {value!r} is not a number of seconds")
    if value < least:
        raise ConfigError(f"{what} {value!r} is below {least} seconds")
    return float(value)


def _timeout(value: float) -> float:
    return _seconds("timeout", value, 0.0)


def _interval(value: float) -> float:
    return _seconds("interval", value, 0.001)


@attrs.frozen(kw_only=True)
class Ready:
    """Conditions that all must hold before a container counts as ready.

    Args:
        port: somebody listens on it inside the container: 6379, "53/udp".
        log: a regular expression that is found in a line of its log since it started.
        times: in so many lines.
        http: an address inside it that answers with a status below 400: an URL, ":8080/health",
            or "/health" beside ``port``.
        command: ends with code 0 when run inside; words, or one text for the shell.
        healthy: its health check says so.
        timeout: seconds for all of them.
        interval: seconds between two looks, where the kernel does not tell.

    Raises:
        ConfigError: a value without meaning, or no condition at all.
    """

    port: Port | None = attrs.field(default=None, converter=_port)
    log: re.Pattern[str] | None = attrs.field(default=None, converter=_log)
    times: int = attrs.field(default=1, converter=_times)
    http: str | None = None
    command: str | tuple[str, ...] | None = attrs.field(default=None, converter=_command)
    healthy: bool = False
    timeout: float = attrs.field(default=60.0, converter=_timeout)
    interval: float = attrs.field(default=0.05, converter=_interval)

    def __attrs_post_init__(self) -> None:
        if self.times != 1 and self.log is None:
            raise ConfigError("times counts lines of the log: set log too")
        if self.http is not None:
            parse_http(self.http, self.port)
        if not (self.port or self.log or self.http or self.command or self.healthy):
            raise ConfigError(
                "there is nothing to wait for",
                hint="give port, log, http, command or healthy",
            )

    @property
    def request(self) -> Http | None:
        """The HTTP request, parsed."""
        return None if self.http is None else parse_http(self.http, self.port)

    def __str__(self) -> str:
        parts = []
        if self.port:
            parts.append(f"port {self.port}")
        if self.log is not None:
            often = f" {self.times} times" if self.times > 1 else ""
            parts.append(f"{self.log.pattern!r} in its log{often}")
        if self.request:
            parts.append(str(self.request))
        if self.command is not None:
            parts.append(f"command {self.command!r}")
        if self.healthy:
            parts.append("its health check")
        return ", ".join(parts)
