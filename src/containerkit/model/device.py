"""A host device that a container is given: its grammar, and what it stands for on this host.

Owns both values.  Must not look at the host; the runtime does.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from containerkit.errors import ConfigError

_FULL: Final = "rwm"
_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[^/:\0]+)+")
# What every /dev has: of the container's own terminals, memory and queues, and what programs
# rely on to be harmless.
_OURS: Final = frozenset(
    "/dev/" + name
    for name in [
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "console",
        "ptmx",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "core",
        "pts",
        "shm",
        "mqueue",
    ]
)


class Device(NamedTuple):
    """A device to give.

    Attributes:
        source: path of the host.
        target: path in the container, below /dev.
        access: of "r", "w" and "m" (mknod), in this order.
    """

    source: str
    target: str
    access: str

    @classmethod
    def parse(cls, text: str) -> Device:
        """Read ``source[:target][:access]``, as Docker writes it.

        Raises:
            ConfigError: a path that is not absolute and plain, a target that is not below /dev or
                is what every container has, an access that is none.
        """
        parts = text.split(":")
        access = _FULL
        if 1 < len(parts) <= 3 and not parts[-1].startswith("/"):
            access = parts.pop()
        if not 1 <= len(parts) <= 2 or not all(map(_PATH.fullmatch, parts)):
            raise ConfigError(
                f"no device: {text!r}",
                hint='as "/dev/fuse", "/dev/fuse:/dev/other" or "/dev/sda:r"; paths are absolute',
            )
        if not access or not set(access) <= set(_FULL) or len(set(access)) < len(access):
            raise ConfigError(f"device {text}: {access!r} is no access", hint="of r, w and m")
        source, target = parts[0], parts[-1]
        first = "/".join(target.split("/")[:3])
        if not target.startswith("/dev/"):
            raise ConfigError(
                f"device {text}: {target} is not below /dev",
                hint=f"name a place there: {source}:/dev/{source.rpartition('/')[2]}",
            )
        if first in _OURS:
            raise ConfigError(f"device {text}: every container has its own {first}")
        return cls(source, target, "".join(kind for kind in _FULL if kind in access))


class Node(NamedTuple):
    """What is at the path of a device.

    Attributes:
        kind: "c" or "b".
        major, minor: its number.
    """

    kind: str
    major: int
    minor: int
