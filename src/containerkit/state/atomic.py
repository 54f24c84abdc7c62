"""Files that appear whole or not at all, and trees that vanish at once.

Owns: write aside, sync, rename; the removal of directory trees.  Must not: decide what is kept.
Neighbours: `content` publishes blobs, `snapshots` trees.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from containerkit.errors import HostError, refusals


def open_regular(
    path: str | os.PathLike[str], flags: int, *, dir_fd: int | None = None, mode: int = 0o600
) -> int:
    """Open a file of ours, if that is what is there: a FIFO would be waited for.

    Raises:
        OSError: as of open(2); EINVAL for what is no regular file.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, mode, dir_fd=dir_fd)
    except IsADirectoryError as error:
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path)) from error
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))


def names_in(part: Path) -> list[str]:
    """Return the names in a directory that every root has.

    Raises:
        HostError: it can not be read, or is gone.
    """
    with refusals("read the root"):
        try:
            return os.listdir(part)
        except FileNotFoundError as error:
            raise gone(part) from error


def gone(part: Path) -> HostError:
    """Return the error of a root, or of a part that every root has, that is not there any more."""
    return HostError(
        f"cannot read {part}: it is gone",
        errno=errno.ENOENT,
        hint="somebody has moved or removed the engine's root; open it where it is",
    )


@refusals("write a file")
def publish_file(
    directory: Path, name: str, data: bytes, *, durable: bool = True, mode: int = 0o600
) -> None:
    """Write *data* as ``directory/name``, replacing what was there in one step.

    Args:
        directory: exists, on the file system of the result.
        name: one path component.
        data: the whole content.
        durable: whether the call returns only when a power cut can not undo it.
        mode: permission bits of the new file.

    Atomicity: others see the old file or the new one; a killed process leaves at most a file whose
    name begins with ".tmp-".
    """
    aside = directory / f".tmp-{secrets.token_hex(8)}"
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            write_all_at(fd, data, 0)
            if durable:
                os.fdatasync(fd)
        finally:
            os.close(fd)
        os.rename(aside, directory / name)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(directory)


def make_directories(path: Path, mode: int) -> None:
    """Make a directory and those above it that are missing, none of them wider than *mode*.

    `Path.mkdir` gives those above what the umask leaves, which may be a place that all can write to.
    """
    for one in reversed([one for one in (path, *path.parents) if not one.exists()]):
        with contextlib.suppress(FileExistsError):
            one.mkdir(mode)


def write_all_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of *data* at *offset*, however small the pieces that the kernel takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


@refusals("wait for the disk")
def sync_directory(directory: Path) -> None:
    """Wait until the names in *directory* are on disk (fsync(2): a file's own does not cover it)."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@refusals("remove a tree")
def remove_tree(path: Path) -> None:
    """Remove *path* and everything beneath it; what vanishes meanwhile is no error.

    One directory is open at a time and nothing recurses, because a layer may be deeper than the
    descriptor limit or the interpreter's stack; symbolic links are removed, never followed.

    Raises:
        OSError: the kernel refused a removal.
    """
    try:
        _remove_tree(path)
    except PermissionError:
        # In an ordinary user's root, files may have other ids of its user namespace.
        from containerkit.state.inside import Inside, root_of

        root = root_of(path)
        if root is None:
            raise
        with Inside(root, "containerkit.state.inside:remove", {"path": str(path)}) as inside:
            inside.result()


def _remove_tree(path: Path) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        path.unlink(missing_ok=True)
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    # Every step may find that another remover of the same tree was there first.
    fd = _enter(None, str(path), flags)
    if fd < 0:
        return
    try:
        # For each open level: its name, and the subdirectories that are still to be entered.
        levels: list[tuple[str, list[str]]] = [("", _remove_files(fd))]
        while levels:
            name, pending = levels[-1]
            if pending:
                child = pending.pop()
                entered = _enter(fd, child, flags)
                if entered >= 0:
                    # In this order: an interrupt comes after a call, and must not close twice.
                    left, fd = fd, entered
                    os.close(left)
                    levels.append((child, _remove_files(fd)))
                continue
            levels.pop()
            if levels:
                try:
                    parent = os.open("..", flags, dir_fd=fd)
                except FileNotFoundError:  # removed while we were in it: what is left, from the top
                    _remove_tree(path)
                    return
                left, fd = fd, parent
                os.close(left)
                _remove_directory(name, fd)
    finally:
        os.close(fd)
    _remove_directory(str(path), None)


def _enter(fd: int | None, name: str, flags: int) -> int:
    """Return a descriptor of a directory; -1: it is gone."""
    with contextlib.suppress(FileNotFoundError):
        try:
            return os.open(name, flags, dir_fd=fd)
        except PermissionError:
            # A directory of a layer need not be readable; root is not asked, other owners are.
            os.chmod(name, 0o700, dir_fd=fd)
            return os.open(name, flags, dir_fd=fd)
    return -1


def _remove_files(fd: int) -> list[str]:
    """Unlink everything in the open directory but its subdirectories; return their names."""
    directories: list[str] = []
    files: list[str] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            (directories if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
    if (files or directories) and os.fstat(fd).st_mode & 0o300 != 0o300:
        os.fchmod(fd, 0o700)
    for name in files:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)
    return directories


def _remove_directory(name: str, parent: int | None) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=parent)
