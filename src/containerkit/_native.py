"""The C core as Python: the only module that imports the CFFI extension.

Owns: handles on C objects, and the one translation of C errors into exceptions.  Must not: decide
anything.  Neighbours: `layers` feeds tar streams to an `Applier`; `runtime` drives the launcher and
opens what lies in containers.
CFFI drops the GIL around every call, so a call into here never holds up other threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any, NoReturn, Self

from containerkit._ck import ffi, lib
from containerkit.errors import (
    HINTS,
    LIMIT_HINT,
    ArchiveError,
    ContainerKitError,
    HostError,
    PermissionDenied,
    UnsafePath,
)

if TYPE_CHECKING:
    from types import TracebackType

# ---- errors ------------------------------------------------------------------------------------

BROKEN_HINT = "the archive is hostile or broken"


def new_error() -> Any:
    """Return an empty ``struct ck_error``, owned by the caller, as C functions want it."""
    return ffi.new("struct ck_error *")


def error_text(err: Any) -> str:
    """Return what C says: object and cause; of names, only what is printable stands as it is."""
    raw = ffi.string(err.detail).decode("utf-8", "backslashreplace")
    detail = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in raw)
    return f"{detail}: {os.strerror(err.errnum)}" if err.errnum else detail


def as_exception(err: Any, attempt: str, **attributes: Any) -> ContainerKitError:
    """Translate a C error.

    Args:
        err: a filled ``struct ck_error``.
        attempt: what was tried, without a full stop: "cannot unpack layer".
        attributes: for the exceptions that have an ``entry``.
    """
    message = f"{attempt}: {error_text(err)}"
    if err.code == lib.CK_E_LIMIT:
        return ArchiveError(message, hint=LIMIT_HINT, **attributes)
    if err.code in {lib.CK_E_ARCHIVE, lib.CK_E_UNSAFE}:
        kind = UnsafePath if err.code == lib.CK_E_UNSAFE else ArchiveError
        return kind(message, hint=BROKEN_HINT, **attributes)
    return _refused(message, err.errnum)


def _refused(message: str, number: int) -> HostError:
    if number in {errno.EPERM, errno.EACCES}:
        return PermissionDenied(message, errno=number)
    return HostError(message, errno=number or None, hint=HINTS.get(number))


# ---- layers ------------------------------------------------------------------------------------


_OVERHEAD = 16 << 20
"""Bytes that headers and padding may have in any archive."""

_ARCHIVES_FAULT = frozenset(
    (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.EISDIR, errno.EBADMSG)
)
"""What the kernel says of entries that fit no tree, or not each other."""


def _are_ids_missing() -> bool:
    """Whether this is a user namespace that has not all ids."""
    with contextlib.suppress(OSError), open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]
    return False


_NO_SUCH_ID = "its owner is no id here; /etc/subuid and /etc/subgid grant more to a new root"


class Applier:
    """Applies one layer's tar stream to an empty directory (``ck_apply.c``).

    Life: made, fed any number of times, finished once, closed.  After an error only `close` may
    follow.  `feed` and `finish` belong to one thread made for it: that thread no longer shares its
    umask and working directory with the rest of the process.

    Args:
        directory: an open descriptor of the destination; the applier keeps its own.
        user_xattrs: overlay marks as ``user.overlay.*`` (rootless) instead of ``trusted.*``.
        own_ids: everything is this process's own, whatever the archive says.
        openat2: False resolves paths as on a kernel without openat2(2).
        max_entries: entries the layer may have.
        max_bytes: bytes of all files together, holes included.
        max_depth: directories below each other.
        max_xattr_bytes: names and values of one entry's extended attributes.
        max_meta_bytes: one PAX or GNU extended header.
        name: of the layer, for messages.

    Raises:
        HostError: the destination can not be used, or there is no memory.
    """

    def __init__(
        self,
        directory: int,
        *,
        user_xattrs: bool = False,
        own_ids: bool = False,
        openat2: bool = True,
        max_entries: int,
        max_bytes: int,
        max_depth: int,
        max_xattr_bytes: int,
        max_meta_bytes: int,
        name: str = "",
    ) -> None:
        flags = lib.CK_APPLY_USER_XATTRS if user_xattrs else 0
        flags |= lib.CK_APPLY_OWN_IDS if own_ids else 0
        flags |= 0 if openat2 else lib.CK_APPLY_NO_OPENAT2
        options = ffi.new(
            "struct ck_apply_options *",
            (flags, max_entries, max_bytes, max_depth, max_xattr_bytes, max_meta_bytes),
        )
        self._attempt = f"cannot unpack layer {name}".rstrip()
        self._err = new_error()
        self._result = ffi.new("struct ck_apply_result *")
        applier = lib.ck_apply_new(directory, options, self._result, self._err)
        if not applier:
            raise as_exception(self._err, self._attempt)
        self._applier: Any = ffi.gc(applier, lib.ck_apply_free)
        self._failed = False
        self._fed = 0
        self._overhead = max(max_bytes, _OVERHEAD)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the stream; what they complete is on disk afterwards.

        Raises:
            ArchiveError: the tar stream is malformed or exceeds a limit.
            UnsafePath: an entry or link points out of the layer.
            HostError: the file system refuses (full, read-only, no permission).
        """
        with ffi.from_buffer(data) as buffer:
            if lib.ck_apply_feed(self._open(), buffer, len(buffer), self._err) < 0:
                self._fail()
            self._fed += len(buffer)
        if self._fed - self._result.bytes > self._overhead:
            self._failed = True
            raise ArchiveError(
                f"{self._attempt}: headers, or what follows the end, are too large",
                hint=LIMIT_HINT,
                entry="",
            )

    @property
    def counts(self) -> tuple[int, int]:
        """Entries of the archive so far, and the bytes of their files together."""
        return int(self._result.entries), int(self._result.bytes)

    def finish(self) -> tuple[int, int]:
        """End the stream: set directory modes and times.

        Returns:
            Entries in the archive, and the bytes of its files together (holes included).

        Raises:
            ArchiveError: the stream ended too early.
            HostError: as `feed`.
        """
        if lib.ck_apply_feed(self._open(), ffi.NULL, 0, self._err) < 0:
            self._fail()
        return self.counts

    def close(self) -> None:
        """Close descriptors, free memory; harmless when repeated."""
        applier, self._applier = self._applier, None
        if applier is not None:
            ffi.release(applier)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> Any:
        if self._applier is None or self._failed:
            raise ValueError("the applier is closed, or has failed")
        return self._applier

    def _fail(self) -> NoReturn:
        self._failed = True
        if self._err.code == lib.CK_E_OS and self._err.errnum in _ARCHIVES_FAULT:
            self._err.code = lib.CK_E_ARCHIVE
        if self._err.code == lib.CK_E_OS and self._err.errnum == errno.E2BIG:
            self._err.code = lib.CK_E_LIMIT
        named = self._result.entry
        entry = os.fsdecode(ffi.string(named)) if named else ""
        error = as_exception(self._err, self._attempt, entry=entry)
        # chown(2) says so; all else that could be invalid is checked before
        if isinstance(error, HostError) and error.errno == errno.EINVAL and _are_ids_missing():
            error.hint = _NO_SUCH_ID
        raise error


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
        raise _refused(f"cannot start the launcher: {os.strerror(-pid)}", -pid)
    os.set_inheritable(pidfd[0], False)
    return pid, pidfd[0]


def watch_directory(path: os.PathLike[str]) -> int:
    """Return an inotify descriptor that tells of changes in a directory; reading never blocks.

    Raises:
        PermissionDenied, HostError: there is none such, or the user has no instance left.
    """
    fd: int = lib.ck_watch_directory(os.fsencode(path))
    if fd < 0:
        raise _refused(f"cannot wait for changes: watch {path}: {os.strerror(-fd)}", -fd)
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
        raise _refused(f"cannot make a user namespace: {os.strerror(-end)}", -end)
    return end, pidfd[0]


def enter_namespace(userns: int) -> None:
    """Enter a user namespace: for a process that has one thread only.

    Raises:
        PermissionDenied, HostError: the kernel refused.
    """
    error = lib.ck_enter_namespace(userns)
    if error < 0:
        raise _refused(f"cannot enter a user namespace: {os.strerror(-error)}", -error)


def limit_devices(group: int, program: bytes) -> None:
    """Have a program say which devices a control group may use, of version 2 (bpf(2)).

    Args:
        group: its directory, open.
        program: ``struct bpf_insn`` each.

    Raises:
        PermissionDenied, HostError: the kernel refused.
    """
    error: int = lib.ck_devices_of_group(group, program, len(program))
    if error < 0:
        raise _refused(f"cannot limit devices by a program: {os.strerror(-error)}", -error)


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
        raise _refused(f"cannot mount {path}: {os.strerror(-fd)}", -fd)
    return fd
