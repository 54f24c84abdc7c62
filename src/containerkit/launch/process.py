"""The process a container starts: command, environment, directory, host name.

Owns Docker's rules for putting image and caller together, and the grammar of each.  Must not read
``os.environ``: nothing of the caller's environment comes into a container (CVE-2026-57231).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from containerkit.errors import CommandNotFound, ConfigError, InvalidSpec
from containerkit.model.image_config import beneath
from containerkit.model.mount import check_target

if TYPE_CHECKING:
    from containerkit.model.image_config import ImageConfig
    from containerkit.model.options import Command

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL: Final = ("/bin/sh", "-c")

_CANDIDATES_MAX: Final = 256

# RFC 1123 labels, and the underscore that people use; 64 is the kernel's limit (sethostname(2)).
_HOSTNAME: Final = re.compile(
    r"(?=.{1,64}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
    r"(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)


def _words(value: Sequence[str | os.PathLike[str]], what: str) -> tuple[str, ...]:
    words = []
    for word in value:
        try:
            text: object = os.fspath(word)
        except TypeError:
            text = None
        if not isinstance(text, str):
            raise ConfigError(
                f"{what}: {word!r} is not text",
                hint="convert numbers with str(), bytes by decode()",
            )
        if "\0" in text:
            raise ConfigError(f"{what}: {text!r} holds a NUL character")
        words.append(text)
    return tuple(words)


def _is_text(value: object, what: str) -> bool:
    if isinstance(value, bytes | bytearray | Mapping) or not (
        isinstance(value, str) or hasattr(value, "__iter__")
    ):
        raise ConfigError(f"{what}: {value!r} is neither text nor a sequence of texts")
    return isinstance(value, str)


def command_line(
    image: ImageConfig, command: Command | None, entrypoint: Command | None
) -> tuple[str, ...]:
    """Return the argument vector.

    Args:
        image: its entrypoint, cmd and shell.
        command: replaces the image's cmd; a text goes to the image's shell.
        entrypoint: replaces the image's and clears its cmd; a text is one program; empty: none.

    Raises:
        ConfigError: nothing to run, an argument that is not text.
        CommandNotFound: the program's name is empty.
    """
    first, rest = both_parts(image, command, entrypoint)
    argv = first + rest
    if not argv:
        raise ConfigError(
            "no command: the image has neither entrypoint nor cmd", hint="give a command"
        )
    if not argv[0]:
        raise CommandNotFound(
            "cannot start the command: its first word, the program, is empty",
            hint="the words come from the image's entrypoint and cmd, or from the caller's",
            errno=errno.ENOENT,
        )
    return argv


def both_parts(
    image: ImageConfig, command: Command | None, entrypoint: Command | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return entrypoint and cmd, as `command_line` puts them together.

    Raises:
        ConfigError: an argument that is not text.

    Spec: image-spec config.md, Entrypoint and Cmd; Docker's reference of ENTRYPOINT.
    """
    if entrypoint is None:
        first = () if image.entrypoint == ("",) else image.entrypoint  # as Docker clears one
    elif _is_text(entrypoint, "entrypoint"):
        first = _words([entrypoint], "entrypoint") if entrypoint else ()  # type: ignore[list-item]
    else:
        first = _words(entrypoint, "entrypoint")
    if command is None:
        rest = image.cmd if entrypoint is None else ()
    elif _is_text(command, "command"):
        rest = _words((*(image.shell or DEFAULT_SHELL), command), "command")  # type: ignore[arg-type]
    else:
        rest = _words(command, "command")
    return first, rest


def environment(
    image: ImageConfig,
    env: Mapping[str, str | None] | None,
    *,
    hostname: str,
    home: str,
    tty: bool,
) -> dict[str, str]:
    """Return the environment: defaults, then the image's, then the caller's; None removes.

    An image's empty HOME is none: the user's own holds.

    Raises:
        ConfigError: a name that is empty or holds "=" or NUL, a value that is not text.
    """
    found = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if tty:
        found["TERM"] = "xterm"
    for entry in image.env:
        name, equals, value = entry.partition("=")
        if not equals or not name:  # else a bare name would be looked up somewhere
            raise InvalidSpec(f"the image's env has an entry without a value: {name!r}")
        found[name] = value
    if not found.get("HOME"):
        found["HOME"] = home
    changes: Mapping[Any, Any] = env or {}
    for name, given in changes.items():
        check_variable(name, given)
        if given is None:
            found.pop(name, None)
        else:
            found[name] = given
    return found


def check_variable(name: object, value: object) -> None:
    """Refuse what is no variable of an environment; None, which removes one, is.

    Raises:
        ConfigError: a name that is empty or holds "=" or NUL, a value that is not text.
    """
    if not isinstance(name, str) or not name or "=" in name or not _is_plain(name):
        raise ConfigError(f"env: {name!r} is not a variable's name")
    if value is not None and not (isinstance(value, str) and _is_plain(value)):  # never show it
        raise ConfigError(f"env: the value of {name} is not text without NUL characters")


def _is_plain(text: str) -> bool:
    """Whether a text has bytes, as `launch.wire` encodes it, and none of them is NUL."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def candidates(program: str, path: str | None) -> tuple[str, ...]:
    """Return where a program may be, in the order execvp(3) looks.

    Args:
        program: with a slash: as it is, from the workdir; otherwise looked for in ``path``.
        path: the container's PATH; None: the default one.
    """
    if "/" in program:
        return (program,)
    folders = (DEFAULT_PATH if path is None else path).split(":")
    # An empty one is the current directory.
    found = dict.fromkeys(f"{folder or '.'}/{program}" for folder in folders[:_CANDIDATES_MAX])
    return tuple(found)


def working_directory(image: ImageConfig, workdir: str | os.PathLike[str] | None) -> str:
    """Return the absolute working directory: the caller's, the image's, or "/".

    ".." are resolved as text, beneath the root, as Docker resolves them.

    Raises:
        ConfigError: the caller's is relative.
        InvalidSpec: the image's is no path.
    """
    if workdir is not None:
        return _directory(workdir)
    try:
        return _directory("/" + image.workdir)
    except ConfigError as cause:
        raise InvalidSpec(f"the image's {cause.message}") from cause


def _directory(path: str | os.PathLike[str]) -> str:
    text: object = os.fspath(path)
    if isinstance(text, str) and text.startswith("/") and ".." in text.split("/"):
        path = beneath(text)
    return check_target(path, what="workdir")


def host_name(hostname: str | None, default: str) -> str:
    """Return the host name.

    Raises:
        ConfigError: not a host name of at most 64 letters, digits, hyphens and dots.
    """
    if hostname is None:
        return default
    if not _HOSTNAME.fullmatch(hostname):
        raise ConfigError(
            f"{hostname!r} is not a host name",
            hint="at most 64 letters, digits, hyphens and dots; labels neither begin nor end in '-'",
        )
    return hostname
