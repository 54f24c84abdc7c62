"""`Files.open`: the builtin `open`, beneath a container's root.

Owns: what each mode means for a file that may or may not be there.
"""

from __future__ import annotations

import contextlib
import os
from typing import IO, Any, Final

from containerkit.errors import ConfigError
from containerkit.runtime import hands
from containerkit.runtime.beneath import (
    Side,
    closing,
    leaf,
    open_file,
    reopen,
)

_TRIES: Final = 100
_CREATE: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def flags_of(mode: str) -> int:
    """Return the open(2) flags of a mode of `open`, O_CREAT and O_EXCL among them.

    Raises:
        ConfigError: it is none.
    """
    letters = set(mode)
    kinds = letters & set("rwax")
    if (
        len(mode) != len(letters)
        or len(kinds) != 1
        or letters - set("rwaxbt+")
        or {*"bt"} <= letters
    ):
        raise ConfigError(f"{mode!r} is not a mode to open a file", hint='as "r", "wb" or "a+"')
    kind = kinds.pop()
    plain = os.O_RDONLY if kind == "r" else os.O_WRONLY
    flags = os.O_RDWR if "+" in mode else plain
    return (
        flags
        | {
            "r": 0,
            "w": os.O_CREAT | os.O_TRUNC,
            "a": os.O_CREAT | os.O_APPEND,
            "x": os.O_CREAT | os.O_EXCL,
        }[kind]
    )


def opened(
    side: Side,
    path: str,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> IO[Any]:
    """Open a file; arguments as the builtin's, with UTF-8 as the encoding of text.

    Raises:
        OSError: as the builtin.
        ConfigError: the mode is none.
    """
    fd = _descriptor(side, path, flags_of(mode))
    try:
        if "b" not in mode and encoding is None:
            encoding = "utf-8"
        return open(fd, mode.replace("x", "w"), buffering, encoding, errors, newline)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise


def _descriptor(side: Side, path: str, flags: int) -> int:
    existing = flags & ~(os.O_CREAT | os.O_EXCL)
    if not flags & os.O_CREAT:
        return open_file(side, path, existing)
    # What is there may go, and what is not may come, between two looks.
    for _ in range(_TRIES):
        if not flags & os.O_EXCL:
            with (
                contextlib.suppress(FileNotFoundError),
                closing(side.open(path, os.O_PATH)) as found,
            ):
                return reopen(found, existing)
        parent, name = leaf(side, path, "open")
        with closing(parent):
            try:
                fd = hands.open(name, existing & ~os.O_TRUNC | _CREATE, 0o600, dir_fd=parent)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                continue
        if side.maker is not None:
            hands.fchown(fd, *side.maker)
        hands.chmod(fd, 0o644)
        return fd
    raise FileExistsError(path)
