"""One file beneath a root, by descriptor: opened, made aside, put in place.

Owns: resolution of single paths, and the translation of the kernel's errors.  A `Side` is either a
container's root or this host; whatever works on both never follows a link that lies beneath.

The rules that make it safe while the contained processes rename and link as they like:

- a path is resolved once, by `containerkit._native.path_open`, to a descriptor; what follows uses
  the descriptor, or single names in it without following links;
- what a descriptor is, is asked of itself (fstat) while it is an O_PATH one, which opens nothing;
  only then it is opened in earnest, through our own /proc/self/fd.  So a FIFO never blocks, and a
  device never learns of us;
- descriptors of content are non-blocking: of the regular files only those of /proc/kmsg's kind,
  and those under a lease (fcntl(2)), would make a reader wait.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from containerkit._native import file_system_of
from containerkit.errors import (
    ContainerKitError,
    FileError,
    FileExists,
    FileNotFound,
    IsADirectory,
    NotADirectory,
    PermissionDenied,
    SpecialFile,
)
from containerkit.runtime import hands
from containerkit.runtime.fileinfo import KERNEL, type_of
from containerkit.runtime.paths import Place, cut, placed

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap

DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
LEAF: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS: Final = 40  # as the kernel's MAXSYMLINKS
_ASIDE: Final = ".ck-"

_KINDS: Final[dict[int, type[FileError]]] = {
    errno.ENOENT: FileNotFound,
    errno.EEXIST: FileExists,
    errno.ENOTDIR: NotADirectory,
    errno.EISDIR: IsADirectory,
    errno.ENXIO: SpecialFile,
}
_DENIED: Final = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_HINTS: Final = {
    errno.EROFS: "it lies on a read-only mount",
    errno.ELOOP: "too many links or directories in each other, or a link of /proc",
    errno.ENOTEMPTY: "recursive=True removes what is in it, as long as nothing is added",
    errno.EXDEV: "the two lie on different mounts; copy it",
    errno.EBUSY: "something is mounted there",
    errno.ENOSPC: "the file system is full",
    errno.EAGAIN: "it has nothing to read yet, or somebody holds a lease on it",
}


# ---- errors ------------------------------------------------------------------------------------


def file_error(error: OSError, attempt: str, path: str) -> ContainerKitError:
    """Translate an error of the kernel about a file; *attempt* as "cannot read /etc/x"."""
    number = error.errno or 0
    message = f"{attempt}: {error.strerror or error}"
    hint = _HINTS.get(number)
    if number in _DENIED:
        return PermissionDenied(message, errno=number, hint=hint, path=path)
    return _KINDS.get(number, FileError)(message, errno=number, hint=hint, path=path)


@contextmanager
def attempt(verb: str, path: str) -> Iterator[None]:
    """Raise what the kernel refuses within as an error of this package's, naming *path*."""
    try:
        yield
    except ContainerKitError:
        raise
    except OSError as error:
        raise file_error(error, f"cannot {verb} {path}", path) from error


def refuse_special(status: os.stat_result) -> None:
    """Raise unless it is a regular file.

    Raises:
        OSError: EISDIR or ENXIO.
    """
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENXIO, f"it is a {type_of(status.st_mode)}, not a regular file")


# ---- where -------------------------------------------------------------------------------------


class Side:
    """The host, where a path is what the caller means by it.

    Attributes:
        maker: who what is made there belongs to; None: this process.
    """

    maker: tuple[int, int] | None = None

    def open(self, path: str, flags: int) -> int:
        """Open what is there; flags as `os.open`, without O_CREAT."""
        return os.open(path, flags | os.O_CLOEXEC)


class RootSide(Side):
    """A container: the tree beneath a root descriptor, which stays the caller's to close."""

    def __init__(self, root: int, ids: IdMap | None = None) -> None:
        self._root = root
        self._ids = ids
        self.maker = None if ids is None else ids.root()

    def owner(self, owner: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return as the host counts whom the container calls so."""
        return owner if self._ids is None or owner is None else self._ids.outside(*owner)

    def open(self, path: str, flags: int) -> int:
        """Open what is there, beneath the root whatever the path is.

        The kernel's own files are opened for who names them: a link of the container's that leads
        there would have them read, or written to, with the caller's rights (/proc/kmsg).
        """
        found = hands.open_beneath(self._root, path, flags)
        if file_system_of(found) not in KERNEL or _is_named(path):
            return found
        os.close(found)
        return hands.open_beneath(self._root, path, flags, no_symlinks=True)


def _is_named(path: str) -> bool:
    """Whether a path is one of /proc or /sys, where all links are the kernel's."""
    return path.startswith(("/proc/", "/sys/")) and ".." not in path.split("/")


HOST: Final = Side()


@contextmanager
def closing(fd: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def leaf(side: Side, path: str, verb: str) -> tuple[int, str]:
    """Find where *path* is to be written: its directory, open, and its name there.

    Links are followed to the end, also to one that leads to nothing yet.

    Raises:
        OSError: a directory on the way is missing, or is none; or the path means a directory.
        ConfigError: it ends in no name.
    """
    place: Place | None = placed(path, verb)
    for _ in range(_LINKS):
        if place is None or place.directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        parent = side.open(place.parent, DIRECTORY)
        try:
            target = hands.readlink(place.name, dir_fd=parent)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOENT}:
                os.close(parent)
                raise
            return parent, place.name
        os.close(parent)
        place = cut(target if target.startswith("/") else f"{place.parent}/{target}")
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def make_parents(side: Side, path: str, mode: int = 0o755) -> int:
    """Open a directory, made with those above it where missing; an O_PATH descriptor.

    Raises:
        OSError: something else is in the way.
    """
    with contextlib.suppress(FileNotFoundError):
        return side.open(path, DIRECTORY)
    here, walked = side.open("/", DIRECTORY), ""
    for name in filter(None, path.split("/")):
        walked = f"{walked}/{name}"
        with closing(here):
            try:
                here = side.open(walked, DIRECTORY)
            except FileNotFoundError:
                make_directory(here, name, mode, side.maker)
                here = side.open(walked, DIRECTORY)
    return here


def make_directory(parent: int, name: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Make a directory with exactly this mode, whatever the umask.

    Raises:
        OSError: FileExistsError above all.
    """
    hands.mkdir(name, 0o700, dir_fd=parent)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with closing(hands.open(name, flags, dir_fd=parent)) as made:
        if owner is not None:
            hands.fchown(made, *owner)
        hands.chmod(made, mode)


# ---- content -----------------------------------------------------------------------------------


def reopen(fd: int, flags: int) -> int:
    """Open in earnest the regular file or directory that an O_PATH descriptor stands for.

    Raises:
        OSError: EISDIR or ENXIO when it is neither a regular file nor, with O_DIRECTORY, one.
    """
    if not flags & os.O_DIRECTORY:
        refuse_special(os.fstat(fd))
    return hands.reopen(fd, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def open_file(side: Side, path: str, flags: int) -> int:
    """Open a regular file that is there."""
    with closing(side.open(path, os.O_PATH)) as found:
        return reopen(found, flags)


def open_leaf(parent: int, name: str, flags: int) -> int:
    """Open a regular file by its name in a directory, not following a link."""
    with closing(hands.open(name, LEAF, dir_fd=parent)) as found:
        return reopen(found, flags)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of *data*, however small the pieces that the kernel takes."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


# ---- aside -------------------------------------------------------------------------------------


def aside_name() -> str:
    """Return a name that nothing has."""
    return _ASIDE + secrets.token_hex(8)


@contextmanager
def aside(parent: int) -> Iterator[str]:
    """Give a name in a directory for something that is made there; it is gone at the end.

    What was made is either put in place by `put_in_place` or, after a failure, removed.
    """
    name = aside_name()
    try:
        yield name
    finally:
        # Put in place, it has lost this name: unless the two were one file, which rename(2) leaves.
        with contextlib.suppress(FileNotFoundError):
            hands.unlink(name, dir_fd=parent)


def create(parent: int, name: str) -> int:
    """Make an empty file that only its owner may use, for writing."""
    return hands.open(name, _NEW, 0o600, dir_fd=parent)


def change_mode(parent: int, name: str, mode: int) -> None:
    """Set the permission bits of what *name* is, never of what it may lead to.

    chmod(2) by name would follow a link that came there meanwhile, out of a container too.
    """
    with closing(hands.open(name, LEAF, dir_fd=parent)) as found:
        if not stat.S_ISLNK(os.fstat(found).st_mode):
            hands.chmod(found, mode)


def put_in_place(parent: int, made: str, name: str) -> None:
    """Give *made* the name *name* in the same directory, replacing what is no directory.

    Raises:
        OSError: EISDIR when a directory is in the way, EBUSY when something is mounted there.
    """
    hands.rename(made, name, src_dir_fd=parent, dst_dir_fd=parent)
