"""A process that does for an ordinary user what it alone is refused on the files of containers.

Owns: that process, in a root's user namespace, where it has rights over the files of all ids there; what
it may be asked for; both ends.  Must not: decide what is done.

It gets descriptors, does one step, and sends back a descriptor or an error.  Asked is only for steps on
mounts that this process does not see, so in a container; on mounts of our own a refusal is one: what
a caller may do to its own files is no matter of containers.

It has nothing but a socket of its caller's and ends with it: when the engine is closed, or its caller ends,
however that ends.  It has no right that its caller could not have by newuidmap(1); yet it takes single names
only, and opens nothing that a link may lead to, or that is no file.

Neighbours: `hands` asks; `contents.reach` says for which roots.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from containerkit._native import file_system_of, path_open
from containerkit.errors import HostError
from containerkit.model.idmap import IdMap
from containerkit.runtime.fileinfo import KERNEL
from containerkit.state import userns

_PACKET: Final = 200_000
_FDS: Final = 2
_TRIES: Final = 2
_LOOK: Final = os.O_PATH | os.O_NOFOLLOW
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_DIRECTORY: Final = os.O_DIRECTORY | os.O_NOFOLLOW
_SAME: Final = -1
_ATTRIBUTES: Final = ("user.", "security.capability")


_guard = threading.Lock()
_roots: dict[userns.Ids, Path] = {}
_helpers: dict[userns.Ids, _Helper] = {}
_parents: list[_Helper] = []
"""In a forked child: what is not ours to end, also not by being collected."""


def allow(root: Path) -> None:
    """Let steps on the files of a root's containers be helped, if it has ids that are not our own."""
    if userns.is_needed():
        ids = userns.ids_of(root)
        if not ids.single:
            _roots[ids] = root


def end() -> None:
    """End the helpers; one that is wanted again is started again."""
    with _guard:
        helpers = list(_helpers.values())
        _helpers.clear()
        for helper in helpers:
            helper.close()


def asked(
    refused: PermissionError, step: str, fds: list[int], *arguments: Any
) -> tuple[Any, int | None]:
    """Have a step done that was refused; return what it gives, and a descriptor.

    Raises:
        OSError: as the step's; the refusal, if it is ours to be refused, or nobody can help.
    """
    if not _roots or not all(_is_theirs(fd) for fd in fds):
        raise refused
    with _guard:
        for ids, root in list(_roots.items()):
            told = _numbers(step, arguments, IdMap(*ids))
            if told is None:
                continue
            for _ in range(_TRIES):
                try:
                    return _helper(ids, root).ask(step, fds, told)
                except (PermissionError, HostError):  # refused there too; or it can not be had
                    break
                except (EOFError, ConnectionError):  # somebody killed it: another one
                    _helpers.pop(ids).close()
                except OSError:
                    raise
                except BaseException:  # an interrupt: what it says next is an answer to this
                    if ids in _helpers:
                        _helpers.pop(ids).close()
                    raise
    raise refused


def _numbers(step: str, arguments: tuple[Any, ...], ids: IdMap) -> tuple[Any, ...] | None:
    """Return a step's arguments as its helper counts owners; None: it has none such."""
    if not step.startswith("chown"):
        return arguments
    uid, gid, *rest = arguments
    uid = _SAME if uid == _SAME else ids.uid_inside(uid)
    gid = _SAME if gid == _SAME else ids.gid_inside(gid)
    return None if uid is None or gid is None else (uid, gid, *rest)


def _is_theirs(fd: int) -> bool:
    """Whether a descriptor lies on a mount that this process does not see: a container's.

    The kernel's own files are nobody's: what is refused there is no matter of their owner.
    """
    if file_system_of(fd) in KERNEL:
        return False
    with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
        mount = next(line for line in info if line.startswith(b"mnt_id:")).split()[1]
    with open("/proc/self/mountinfo", "rb") as mounts:
        return all(line.split(b" ", 1)[0] != mount for line in mounts)


class _Helper:
    """The process for one map of ids; used by one thread at a time."""

    def __init__(self, root: Path) -> None:
        from containerkit.state.inside import Inside

        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                fd = theirs.fileno()
                self._process = Inside(root, f"{__name__}:serve", {"control": fd}, fds=(fd,))
            except BaseException:
                self._socket.close()
                raise

    def ask(self, step: str, fds: list[int], arguments: tuple[Any, ...]) -> tuple[Any, int | None]:
        """Have a step done.

        Raises:
            OSError: as the step's.
            EOFError: it has ended.
        """
        data = json.dumps([step, arguments]).encode("ascii")
        socket.send_fds(self._socket, [data], fds)
        said, found, _, _ = socket.recv_fds(self._socket, _PACKET, 1, socket.MSG_CMSG_CLOEXEC)
        if not said:
            raise EOFError
        number, value = json.loads(said)
        if number:
            raise OSError(number, os.strerror(number))
        return value, found[0] if found else None

    def forget(self) -> None:
        """Let go of it in a forked child, whose parent's it is."""
        self._socket.close()

    def close(self) -> None:
        self._socket.close()
        self._process.close()


def _helper(ids: userns.Ids, root: Path) -> _Helper:
    if ids not in _helpers:
        _helpers[ids] = _Helper(root)
    return _helpers[ids]


def _forked() -> None:
    global _guard
    _guard = threading.Lock()
    for helper in _helpers.values():
        helper.forget()
    _parents.extend(_helpers.values())
    _helpers.clear()


os.register_at_fork(after_in_child=_forked)


# ---- within that process


def serve(control: int) -> None:
    """Do one step after another, until the other end of a socket is closed."""
    with socket.socket(fileno=control) as asked:
        while True:
            data, fds, _, _ = socket.recv_fds(asked, _PACKET, _FDS, socket.MSG_CMSG_CLOEXEC)
            if not data:
                return
            value, number, made = None, 0, []
            try:
                step, arguments = json.loads(data)
                found = _STEPS[step](*fds, *arguments)
                if isinstance(found, int):
                    made.append(found)
                else:
                    value = found
            except OSError as error:
                number = error.errno or 5
            finally:
                for fd in fds:
                    os.close(fd)
            answer = json.dumps([number, value]).encode("ascii")
            socket.send_fds(asked, [answer], made)
            for fd in made:
                os.close(fd)


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _single(name: str) -> str:
    if not name or "/" in name or name in (".", ".."):
        raise OSError(22, "no single name")
    return name


def _do_open(directory: int, name: str, flags: int, mode: int) -> int:
    safe = any(flags & one == one for one in (_LOOK, _NEW, _DIRECTORY))
    if not safe:
        raise OSError(22, "neither looked at, nor new, nor a directory")
    if name != "." or not flags & os.O_DIRECTORY:
        _single(name)
    return os.open(name, flags | os.O_CLOEXEC, mode, dir_fd=directory)


def _do_open_beneath(root: int, path: str, flags: int, no_symlinks: bool) -> int:  # noqa: FBT001
    if not flags & (os.O_PATH | os.O_DIRECTORY) or flags & os.O_CREAT:
        raise OSError(22, "neither looked at nor a directory")
    return path_open(root, path, flags, no_symlinks=no_symlinks)


def _do_reopen(fd: int, flags: int) -> int:
    kind = stat.S_IFMT(os.fstat(fd).st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR) or flags & os.O_CREAT:
        raise OSError(6, "no file")
    return os.open(_path(fd), flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _do_getxattr(fd: int, name: str) -> str:
    return base64.b64encode(os.getxattr(_path(fd), _attribute(name))).decode("ascii")


def _attribute(name: str) -> str:
    if not name.startswith(_ATTRIBUTES):
        raise PermissionError(1, "no attribute of a user's")
    return name


_STEPS: Final[dict[str, Callable[..., int | str | None]]] = {
    "open": _do_open,
    "open_beneath": _do_open_beneath,
    "reopen": _do_reopen,
    "mkdir": lambda fd, name, mode: os.mkdir(_single(name), mode, dir_fd=fd),
    "mkfifo": lambda fd, name, mode: os.mkfifo(_single(name), mode, dir_fd=fd),
    "symlink": lambda fd, target, name: os.symlink(target, _single(name), dir_fd=fd),
    "link": lambda fd, directory, name: os.link(
        _path(fd), _single(name), dst_dir_fd=directory, follow_symlinks=True
    ),
    "unlink": lambda fd, name: os.unlink(_single(name), dir_fd=fd),
    "rmdir": lambda fd, name: os.rmdir(_single(name), dir_fd=fd),
    "rename": lambda source, target, old, new: os.rename(
        _single(old), _single(new), src_dir_fd=source, dst_dir_fd=target
    ),
    "chown": lambda fd, uid, gid: os.chown(_path(fd), uid, gid),
    "chown_name": lambda fd, uid, gid, name: os.chown(
        _single(name), uid, gid, dir_fd=fd, follow_symlinks=False
    ),
    "chmod": lambda fd, mode: os.chmod(_path(fd), mode),
    "utime": lambda fd, *times: os.utime(_path(fd), ns=times),
    "utime_name": lambda fd, name, *times: os.utime(
        _single(name), ns=times, dir_fd=fd, follow_symlinks=False
    ),
    "getxattr": _do_getxattr,
    "setxattr": lambda fd, name, text: os.setxattr(
        _path(fd), _attribute(name), base64.b64decode(text)
    ),
}
