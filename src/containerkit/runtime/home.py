"""RUN: the directory of a root's sockets, one for each launcher, by which every process reaches it.

Owns where it is, who may enter it, listening and connecting.  Must not: know what is said on a
socket.  Neighbours: `launcher` listens for its launcher, which removes its socket at its end;
`channel` connects; `recover` removes what dead launchers left.

An ordinary user's is in the root, and not where XDG_RUNTIME_DIR says: that is missing from cron and
from a service, is another user's after su(1), and is removed when a session ends, while what is
detached lives on.  Whoever opens the root has to find the same one.

A socket's path may have 107 bytes only (unix(7)), so a longer one is named through a descriptor of
its directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import struct
from pathlib import Path

from containerkit.errors import PermissionDenied, refusals
from containerkit.state.atomic import gone, make_directories, remove_tree
from containerkit.state.root import boot_id
from containerkit.state.userns import is_within

_BACKLOG = 128
_PATH_MAX = 107
_BOOT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@refusals("find the directory of sockets")
def run_directory(root: Path) -> Path:
    """Return where the sockets of a root are; it need not be there.

    Named by device and inode of the root, in hexadecimal, so that every path to it leads here.
    """
    try:
        return Path(_run_directory(root))
    except FileNotFoundError as error:
        raise gone(root) from error


def _run_directory(root: Path) -> str:
    status = os.stat(root)
    if os.geteuid() == 0 and not is_within():  # whose /run it is, too
        base = "/run/containerkit"
    else:
        base = f"{root}/run/{boot_id()}"
    return f"{base}/{status.st_dev:x}:{status.st_ino:x}"


@refusals("make a socket for the launcher")
def listen(root: Path, launcher_id: str) -> tuple[socket.socket, int]:
    """Make a launcher's socket, mode 0600.

    Returns:
        The listening socket, and a descriptor of its directory; both the caller's to close.

    Raises:
        PermissionDenied: the directory belongs to somebody else.
    """
    directory = run_directory(root)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        while True:
            make_directories(directory, 0o700)
            with contextlib.suppress(FileNotFoundError):  # removed since, as it was empty
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    _check_owner(fd, directory)
                    os.fchmod(made.fileno(), 0o600)  # the mode that bind gives its file
                    made.bind(_path(fd, launcher_id))
                    made.listen(_BACKLOG)
                except BaseException:
                    os.close(fd)
                    raise
                return made, fd
    except BaseException:
        made.close()
        raise


def _path(directory: int, launcher_id: str) -> str:
    return f"/proc/self/fd/{directory}/{launcher_id}.sock"


def _check_owner(fd: int, path: Path) -> None:
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionDenied(
            f"cannot make a socket in {path}: it belongs to user {status.st_uid} and has mode"
            f" {stat.S_IMODE(status.st_mode):04o}",
            hint="remove it: it is made again, with mode 0700",
        )


@refusals("connect to the launcher")
def connect(root: Path, launcher_id: str, *, patience: float = 25.0) -> socket.socket:
    """Connect to a launcher of this root.

    Raises:
        FileNotFoundError, ConnectionRefusedError: it has ended.
        BlockingIOError: more connections wait than it can take.

    Blocking: while its queue of connections is full, at most *patience* seconds.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # For connect(2) too, which a timeout of Python's would make fail at once (unix(7)).
        wait = struct.pack("@ll", int(patience), 0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        path = f"{_run_directory(root)}/{launcher_id}.sock"
        if len(os.fsencode(path)) <= _PATH_MAX:
            made.connect(path)
            return made
        directory = os.open(os.path.dirname(path), _DIRECTORY)
        try:
            made.connect(_path(directory, launcher_id))
        finally:
            os.close(directory)
    except BaseException:
        made.close()
        raise
    return made


@refusals("remove the socket of a launcher")
def forget(directory: Path, launcher_id: str) -> None:
    """Remove the socket of a launcher that is dead, and the directory with the last.

    Args:
        directory: as `run_directory` says.
        launcher_id: of the launcher.
    """
    with contextlib.suppress(FileNotFoundError):
        (directory / f"{launcher_id}.sock").unlink()
    with contextlib.suppress(OSError):  # others have theirs there
        directory.rmdir()


def forget_boots(root: Path) -> None:
    """Remove what launchers of earlier boots left of their sockets in a root."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(root / "run"):
            if _BOOT.fullmatch(name) and name != boot_id():
                remove_tree(root / "run" / name)
