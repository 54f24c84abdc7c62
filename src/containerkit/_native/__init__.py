"""The C core as Python: the only module that imports the CFFI extension.

Owns: handles on C objects, and the one translation of C errors into exceptions.  Must not: decide
anything.  Neighbours: `layers` feeds tar streams to an `applier.Applier`; `runtime` drives the launcher
and opens what lies in containers.
CFFI drops the GIL around every call, so a call into here never holds up other threads.
"""

from __future__ import annotations

import errno
import os

from containerkit._ck import ffi, lib
from containerkit.errors import HINTS, HostError, PermissionDenied

# ---- errors ------------------------------------------------------------------------------------

BROKEN_HINT = "the archive is hostile or broken"


def refused(message: str, number: int) -> HostError:
    """Return the exception for what the kernel refused, of that errno."""
    if number in {errno.EPERM, errno.EACCES}:
        return PermissionDenied(message, errno=number)
    return HostError(message, errno=number or None, hint=HINTS.get(number))


# ---- paths -------------------------------------------------------------------------------------


def path_open(
    root: int, path: str | bytes, flags: int, *, no_symlinks: bool = False, openat2: bool = True
) -> int:
    """Open *path* beneath the directory *root*, as if that were ``/`` (``ck_path.c``).

    Links are followed beneath the root, magic links of /proc never; nothing that renames or swaps
    directories meanwhile leads out.  Something new is made by its name in the opened parent.

    Args:
        root: a descriptor, `os.O_PATH` is enough.
        path: absolute or not; it may hold links and ``..``.
        flags: as `os.open`, without `os.O_CREAT` and `os.O_TMPFILE`; close-on-exec is added.
        no_symlinks: a link anywhere in the path is an error.
        openat2: False resolves as on a kernel without openat2(2).

    Raises:
        OSError: the subclass that fits, as of `os.open`.
    """
    return _opened(lib.ck_path_open(root, _c_path(path), flags, _how(no_symlinks, openat2)), path)


def path_mkdirs(
    root: int,
    path: str | bytes,
    mode: int = 0o755,
    *,
    no_symlinks: bool = False,
    openat2: bool = True,
) -> int:
    """Make the directories of *path* that are missing; return an O_PATH descriptor of the last.

    Args:
        root, path, no_symlinks, openat2: as `path_open`.
        mode: of the new ones, less the umask.

    Raises:
        OSError: the subclass that fits, as of `os.mkdir`.
    """
    return _opened(lib.ck_path_mkdirs(root, _c_path(path), mode, _how(no_symlinks, openat2)), path)


def file_system_of(fd: int) -> int:
    """Return the kind of the file system that a descriptor lies on (statfs(2), ``f_type``).

    Raises:
        OSError: the kernel does not say.
    """
    kind: int = lib.ck_path_type(fd)
    if kind < 0:
        raise OSError(-kind, os.strerror(-kind))
    return kind


def _c_path(path: str | bytes) -> bytes:
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    return raw


def _how(no_symlinks: bool, openat2: bool) -> int:  # noqa: FBT001
    how = lib.CK_PATH_NO_SYMLINKS if no_symlinks else 0
    return int(how if openat2 else how | lib.CK_PATH_WALK)


def _opened(fd: int, path: str | bytes) -> int:
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), path)
    return fd


# ---- launch ------------------------------------------------------------------------------------


NO_NAMESPACES: int = lib.CK_NO_NAMESPACES


def spawn_launcher(program: int, control: int, userns: int = -1) -> tuple[int, int]:
    """Start the launcher from the open *program*, with its end of the *control* socket.

    Args:
        program, control: descriptors.
        userns: of the user namespace that it is to be in; -1: this process's; `NO_NAMESPACES`: it
            has none of its own at all.

    Returns:
        Its pid and a pidfd of it, the caller's to close.

    Raises:
        PermissionDenied, HostError: the kernel refused.
    """
    pidfd = ffi.new("int *")
    pid = lib.ck_spawn_launcher(program, control, userns, pidfd)
    if pid < 0:
        raise refused(f"cannot start the launcher: {os.strerror(-pid)}", -pid)
    os.set_inheritable(pidfd[0], False)
    return pid, pidfd[0]


def watch_directory(path: os.PathLike[str]) -> int:
    """Return an inotify descriptor that tells of changes in a directory; reading never blocks.

    Raises:
        PermissionDenied, HostError: there is none such, or the user has no instance left.
    """
    changes = lib.IN_MODIFY | lib.IN_CREATE | lib.IN_MOVED_TO | lib.IN_DELETE_SELF
    fd: int = lib.inotify_init1(lib.IN_CLOEXEC | lib.IN_NONBLOCK)
    if fd < 0 or lib.inotify_add_watch(fd, os.fsencode(path), changes | lib.IN_ONLYDIR) < 0:
        number = ffi.errno
        if fd >= 0:
            os.close(fd)
        raise refused(f"cannot wait for changes: watch {path}: {os.strerror(number)}", number)
    return fd


def spawn_namespace(*, trial: bool = False) -> tuple[int, int]:
    """Start a process in a new user namespace without maps, which waits for its end.

    Args:
        trial: it tries what a launcher mounts in namespaces of its own, and ends: its exit code is
            the errno of what was refused, or 0.

    Returns:
        A descriptor: when it is closed, the process ends; and a pidfd of it, to be waited for with
        ``__WALL``.  Both are the caller's to close.

    Raises:
        PermissionDenied, HostError: the kernel refused.
    """
    pidfd = ffi.new("int *")
    end = lib.ck_spawn_namespace(int(trial), pidfd)
    if end < 0:
        raise refused(f"cannot make a user namespace: {os.strerror(-end)}", -end)
    return end, pidfd[0]


def enter_namespace(userns: int) -> None:
    """Enter a user namespace: for a process that has one thread only.

    Raises:
        PermissionDenied, HostError: the kernel refused.
    """
    if lib.setns(userns, lib.CLONE_NEWUSER) < 0:
        number = ffi.errno
        raise refused(f"cannot enter a user namespace: {os.strerror(number)}", number)


def limit_devices(group: int, program: bytes) -> None:
    """Have a program say which devices a control group may use, of version 2 (bpf(2)).

    Args:
        group: its directory, open.
        program: ``struct bpf_insn`` each.

    Raises:
        PermissionDenied, HostError: the kernel refused.
    """
    error: int = lib.ck_limit_devices(group, program, len(program))
    if error < 0:
        raise refused(f"cannot limit devices by a program: {os.strerror(-error)}", -error)


def open_source(path: str, *, recursive: bool, read_only: bool = False, userns: int = -1) -> int:
    """Return a detached clone of the host's tree at *path*, for a plan's source (open_tree(2)).

    Args:
        path: absolute; links in it are followed.
        recursive: with what is mounted below it.
        read_only: nobody can write through it.
        userns: of the user namespace whose rights are used; -1: this process's.

    Raises:
        PermissionDenied, HostError: there is no such path, or the kernel refused.
    """
    fd: int = lib.ck_open_source(os.fsencode(path), recursive, read_only, userns)
    if fd < 0:
        raise refused(f"cannot mount {path}: {os.strerror(-fd)}", -fd)
    return fd
