"""The way to a container's files: a descriptor of its root.

Owns: finding the root of a running or paused container in /proc, and being sure whose it is.
Must not resolve anything beneath (`beneath` does).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from containerkit.errors import HostError
from containerkit.runtime.beneath import DIRECTORY

Reach = Callable[[], AbstractContextManager[int]]
"""Gives an O_PATH descriptor of a container's root, for the time of one call."""


def open_root(pid_of: Callable[[], int | None]) -> int | None:
    """Open the root directory of a running process; None when it has ended.

    Its number is asked for again afterwards: as long as its pidfd knows one, nobody else can have
    had it meanwhile.

    Args:
        pid_of: the process's number here, from its pidfd; None when it has ended.

    Raises:
        HostError: /proc does not show it.
    """
    pid = pid_of()
    if pid is None:
        return None
    try:
        fd = os.open(f"/proc/{pid}/root", DIRECTORY)
    except OSError as error:
        if pid_of() is None or error.errno in {errno.ENOENT, errno.ESRCH}:
            return None
        raise HostError(
            f"cannot reach the files of process {pid}: {error.strerror}", errno=error.errno
        ) from error
    if pid_of() != pid:
        os.close(fd)
        return None
    return fd


@contextmanager
def root_of(pid_of: Callable[[], int | None], otherwise: Reach) -> Iterator[int]:
    """Give the root of a container: the running one's, else what *otherwise* gives.

    Args:
        pid_of: as `open_root` takes it.
        otherwise: reaches the files of a container that does not run.
    """
    fd = open_root(pid_of)
    if fd is None:
        with otherwise() as root:
            yield root
        return
    try:
        yield fd
    finally:
        os.close(fd)
