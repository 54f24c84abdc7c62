"""Unpacking with the ids of an ordinary user's namespace: both ends of the pipe into it.

Owns: how the tar bytes get there.  Neighbours: `layers.apply` feeds it as it feeds an applier.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Self

from containerkit._native.applier import Applier
from containerkit.errors import ContainerKitError, HostError
from containerkit.state.inside import Inside

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 256 << 10


class ApplierInside:
    """What an `Applier` is to those who feed it, in another process.

    Args:
        root: whose user namespace it is in.
        directory: a descriptor of the empty directory to unpack into.
        options: of the applier.
    """

    def __init__(self, root: Path, directory: int, options: dict[str, Any]) -> None:
        arguments = {"directory": directory, "options": options}
        self._inside = Inside(root, f"{__name__}:apply", arguments, fds=(directory,))

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Apply the next bytes of the tar stream."""
        self._inside.write(data)

    @property
    def counts(self) -> tuple[int, int]:
        """Entries and bytes so far: nothing is said before the end, where the layer's own count."""
        return 0, 0

    def finish(self) -> tuple[int, int]:
        """End the stream; return the number of entries and the bytes of their files."""
        entries, size = self._inside.result()
        return entries, size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inside.close()


def apply(directory: int, options: dict[str, Any]) -> tuple[int, int]:
    """Unpack the standard input, within the namespace."""
    os.fchown(directory, 0, 0)
    with Applier(directory, **options) as applier:
        try:
            while data := sys.stdin.buffer.read(_CHUNK):
                applier.feed(data)
        except ContainerKitError:
            raise
        except OSError as error:
            raise HostError(
                f"cannot unpack a layer: {error.strerror}", errno=error.errno
            ) from error
        counts = applier.finish()
    # Its own mode may keep out whoever holds a lock on it; and root in a container is let in anyhow.
    os.fchmod(directory, stat.S_IMODE(os.fstat(directory).st_mode) | 0o555)
    return counts
