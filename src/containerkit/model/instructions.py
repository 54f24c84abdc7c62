"""Instructions of a Dockerfile that change an image's config, applied to one.

Owns: which there are, their grammar, what each does.  Pure.  Must not: know about files or stages.
Neighbours: `runtime.commit` applies what the caller of `Container.commit` gives.

Spec: Dockerfile reference; what `docker commit --change` takes.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from containerkit.errors import ConfigError
from containerkit.model.image_config import MAX_ENTRIES, ImageConfig, ImageHealthcheck
from containerkit.model.signals import signal_number
from containerkit.model.words import BadText, expand, split

_SHELL: Final = ("/bin/sh", "-c")
_USER: Final = re.compile(r"[^\s:/\0]{1,128}(?::[^\s:/\0]{1,128})?")
_PORT: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:h|m(?!s)|s|ms|us|µs|ns))+|0")
_PART: Final = re.compile(r"([0-9.]+)(h|ms|m|s|us|µs|ns)")
_NANOSECONDS: Final = {
    "h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 1000, "µs": 1000, "ns": 1,
}  # fmt: skip
_MILLISECOND: Final = 10**6
_LONGEST: Final = 1 << 62

_TIMES: Final = {
    "--interval": "interval_ns",
    "--timeout": "timeout_ns",
    "--start-period": "start_period_ns",
    "--start-interval": "start_interval_ns",
}

FORMS: Final = {
    "CMD": 'CMD ["program", "argument"], or CMD and a command for the shell',
    "ENTRYPOINT": 'ENTRYPOINT ["program", "argument"], or ENTRYPOINT and a command for the shell',
    "ENV": 'ENV NAME=value OTHER="with spaces", or ENV NAME value',
    "EXPOSE": "EXPOSE 80 53/udp 8000-8010",
    "LABEL": 'LABEL name=value other="with spaces"',
    "USER": "USER name, uid, name:group or uid:gid",
    "WORKDIR": "WORKDIR /path",
    "VOLUME": 'VOLUME /path /other, or VOLUME ["/path"]',
    "STOPSIGNAL": "STOPSIGNAL SIGTERM, or 15",
    "HEALTHCHECK": "HEALTHCHECK [--interval=30s] [--timeout=30s] [--start-period=0s]"
    ' [--start-interval=5s] [--retries=3] CMD ["program"], or HEALTHCHECK NONE',
}
"""Each instruction that there is, and how it is written."""


def apply_changes(config: ImageConfig, changes: str | Iterable[str]) -> ImageConfig:
    """Return a config after instructions of a Dockerfile.

    Args:
        config: before.
        changes: an instruction each, or a text with one a line.

    Raises:
        ConfigError: one of them is none, or can not be; the message says which, and shows of values
            nothing: they may be secret.
    """
    changing = _Changing(config)
    for number, line in enumerate(_lines(changes), 1):
        name, _, rest = line.partition(" ")
        name, rest = name.upper(), rest.strip()
        if name not in FORMS:
            shown = ascii(name[:40])
            raise ConfigError(
                f"change {number}: {shown} is no instruction that changes an image's config",
                hint=f"there are {', '.join(FORMS)}",
            )
        try:
            if not rest:
                raise BadText("it says nothing")
            _HANDLERS[name](changing, rest)
        except BadText as error:
            raise ConfigError(f"change {number}, {name}: {error}", hint=FORMS[name]) from None
    return attrs.evolve(config, **changing.fields())


def _lines(changes: str | Iterable[str]) -> list[str]:
    given: object = changes
    if isinstance(given, bytes | bytearray | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"changes: {type(given).__name__} is neither text nor a sequence of them")
    texts = [changes] if isinstance(changes, str) else list(changes)
    for text in texts:
        one: object = text
        if not isinstance(one, str):
            raise ConfigError(f"changes: an instruction is text, not {type(one).__name__}")
        if "\0" in one:
            raise ConfigError("changes: an instruction holds a NUL character")
    joined = re.sub(r"\\[ \t]*\r?\n", "", "\n".join(texts))
    lines = [re.sub(r"^(\S+)\s+", r"\1 ", line.strip()) for line in joined.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


class _Changing:
    """A config while it changes."""

    def __init__(self, config: ImageConfig) -> None:
        self.entrypoint = config.entrypoint
        self.cmd = config.cmd
        self.env = dict(entry.partition("=")[::2] for entry in config.env)
        self.shell = config.shell or _SHELL
        self.user = config.user
        self.workdir = config.workdir
        self.stop_signal = config.stop_signal
        self.ports = dict.fromkeys(config.exposed_ports)
        self.volumes = dict.fromkeys(config.volumes)
        self.labels = dict(config.labels)
        self.healthcheck = config.healthcheck
        self.has_cmd = False

    def fields(self) -> dict[str, Any]:
        return {
            "entrypoint": self.entrypoint,
            "cmd": self.cmd,
            "env": tuple(f"{name}={value}" for name, value in self.env.items()),
            "user": self.user,
            "workdir": self.workdir,
            "stop_signal": self.stop_signal,
            "exposed_ports": tuple(self.ports),
            "volumes": tuple(self.volumes),
            "labels": self.labels,
            "healthcheck": self.healthcheck,
        }

    def expanded(self, text: str) -> str:
        return expand(text, self.env)


# ---- what each does


def _cmd(config: _Changing, rest: str) -> None:
    config.cmd = _command(config, rest)
    config.has_cmd = True


def _entrypoint(config: _Changing, rest: str) -> None:
    config.entrypoint = _command(config, rest)
    if not config.has_cmd:
        config.cmd = ()  # it was meant for the one before


def _env(config: _Changing, rest: str) -> None:
    for name, value in _pairs(config, rest):
        config.env[name] = value


def _label(config: _Changing, rest: str) -> None:
    config.labels.update(_pairs(config, rest))


def _expose(config: _Changing, rest: str) -> None:
    for word in split(rest):
        for port in _ports(config.expanded(word)):
            config.ports[port] = None
            if len(config.ports) > MAX_ENTRIES:
                raise BadText(f"there would be more than {MAX_ENTRIES} ports")


def _user(config: _Changing, rest: str) -> None:
    user = config.expanded(rest)
    if not _USER.fullmatch(user):
        raise BadText(f"{user[:80]!a} is no user")
    config.user = user


def _workdir(config: _Changing, rest: str) -> None:
    path = config.expanded(rest)
    if not path:
        raise BadText("it says nothing")
    before = "" if path.startswith("/") else config.workdir
    config.workdir = "/" + posixpath.normpath(f"/{before}/{path}").strip("/")


def _volume(config: _Changing, rest: str) -> None:
    words = _json_words(rest)
    for word in split(rest) if words is None else words:
        path = config.expanded(word) if words is None else word
        if ".." in path.split("/") or not path.strip("/."):
            raise BadText(f"{path[:80]!a} is no path of a volume")
        config.volumes[f"/{path.strip('/')}"] = None


def _stop_signal(config: _Changing, rest: str) -> None:
    word = config.expanded(rest)
    try:
        signal_number(word)
    except ConfigError:
        raise BadText(f"{word[:40]!a} is no signal") from None
    config.stop_signal = word


def _healthcheck(config: _Changing, rest: str) -> None:
    given: dict[str, int | None] = dict.fromkeys((*_TIMES.values(), "retries"))
    while rest.startswith("--"):
        word, _, rest = rest.partition(" ")
        rest = rest.strip()
        option, equals, value = word.partition("=")
        if option in _TIMES and equals:
            given[_TIMES[option]] = _nanoseconds(option, value)
        elif option == "--retries" and value.isascii() and value.isdigit() and len(value) < 6:
            given["retries"] = int(value)
        else:
            raise BadText(f"{word[:80]!a} is no option of it")
    kind, _, command = rest.partition(" ")
    command = command.strip()
    if kind.upper() == "NONE" and not command and not any(given.values()):
        config.healthcheck = ImageHealthcheck(("NONE",), None, None, None, None, None)
        return
    if kind.upper() != "CMD" or not command:
        raise BadText("it says neither CMD and a command nor NONE alone")
    words = _json_words(command)
    test = ("CMD-SHELL", command) if words is None else ("CMD", *words)
    if len(test) < 2 or not test[1]:
        raise BadText("its command names no program")
    config.healthcheck = ImageHealthcheck(test, **given)


_HANDLERS: Final[dict[str, Callable[[_Changing, str], None]]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "USER": _user,
    "WORKDIR": _workdir,
    "VOLUME": _volume,
    "STOPSIGNAL": _stop_signal,
    "HEALTHCHECK": _healthcheck,
}


# ---- what they are made of


def _command(config: _Changing, rest: str) -> tuple[str, ...]:
    words = _json_words(rest)
    return (*config.shell, rest) if words is None else tuple(words)


def _json_words(text: str) -> Sequence[str] | None:
    """Return the words of a JSON list of texts; None: it is none, and so means itself."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        return None
    if any("\0" in word for word in found):
        raise BadText("a word of it holds a NUL character")
    return found


def _pairs(config: _Changing, rest: str) -> list[tuple[str, str]]:
    """Return names and values; they are expanded with what was there before."""
    words = split(rest)
    if "=" not in words[0]:
        name, _, value = rest.partition(" ")
        if not value.strip():
            raise BadText("it gives a name no value")
        found = [(config.expanded(name), config.expanded(value.strip()))]
    else:
        pairs = [word.partition("=") for word in words]
        if not all(equals for _, equals, _ in pairs):
            raise BadText("a word of it is not name=value")
        found = [(config.expanded(name), config.expanded(value)) for name, _, value in pairs]
    for name, _ in found:
        if not name or "=" in name:
            raise BadText("a name in it is empty, or holds '='")
    return found


def _ports(text: str) -> list[str]:
    found = _PORT.fullmatch(text)
    first = int(found[1]) if found else 0
    last = int(found[2] or found[1]) if found else 0
    if found is None or not 1 <= first <= last <= 65535:
        raise BadText(f"{text[:80]!a} is no port")
    kind = (found[3] or "tcp").lower()
    return [f"{number}/{kind}" for number in range(first, last + 1)]


def _nanoseconds(option: str, text: str) -> int:
    """Return a time of Go's, as "1m30s"; 0: the engine's default."""
    if not _DURATION.fullmatch(text):
        raise BadText(f"{option}: {text[:40]!a} is no time, as 30s or 1m30s")
    parts = _PART.findall(text)
    whole = sum(round(float(number) * _NANOSECONDS[unit]) for number, unit in parts)
    if whole and not _MILLISECOND <= whole < _LONGEST:
        raise BadText(f"{option}: {text[:40]!a} is below a millisecond, or too long")
    return whole
