"""All files of a container as one tar: `Container.export`.

Owns: what of the root belongs to it.  What is mounted over it (/proc, /sys, /dev, volumes, single
files) shows as the empty directory or file it is mounted on, as in Docker's.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from containerkit.runtime.archive import ZEROS, tar_pieces
from containerkit.runtime.beneath import DIRECTORY, aside, attempt, closing, put_in_place

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap
    from containerkit.runtime.rootplan import RootPlan

Sink = str | os.PathLike[str] | IO[bytes]

_FLAGS: Final = os.O_WRONLY | os.O_CLOEXEC
_MODE: Final = 0o666  # what the umask leaves of it, as for every other file


def export_to(
    file: Sink,
    root: int,
    plan: RootPlan,
    ids: IdMap | None = None,
    max_size: int | None = None,
) -> None:
    """Write the tar of a root file system.

    Args:
        file: open for writing bytes, or a path: it appears whole or not at all.
        root: a descriptor of the root.
        plan: of the container.
        ids: its own, if it has some.
        max_size: bytes of content in all; None: any.

    Raises:
        FileError: something can not be read, or *file* not written.
        FileTooLarge: it is more than *max_size*.
    """
    mounted = frozenset(path.strip("/") for path in plan.mounted)
    hidden = mounted.__contains__
    pieces = tar_pieces(root, "", skip=hidden, empty=hidden, ids=ids, max_size=max_size)
    with contextlib.closing(pieces):
        _write(file, pieces)


def _write(file: Sink, pieces: Iterable[bytes]) -> None:
    if not isinstance(file, str | os.PathLike):
        with attempt("export", "/"):
            for piece in pieces:
                file.write(piece)
        return
    path = os.path.abspath(os.fspath(file))
    parent, name = os.path.split(path)
    with (
        attempt("export to", path),
        closing(os.open(parent, DIRECTORY)) as directory,
        _appearing(directory, name) as out,
    ):
        for piece in pieces:
            if piece is ZEROS:  # a hole stays one: of terabytes it takes no disk
                out.seek(len(piece), os.SEEK_CUR)
            else:
                out.write(piece)


@contextmanager
def _appearing(directory: int, name: str) -> Iterator[IO[bytes]]:
    """Give a file that gets its name, or takes that of another, when all of it is written.

    It has no name before, so that a killed process leaves nothing, where the file system can make
    such files (open(2), O_TMPFILE).
    """
    with aside(directory) as made:
        fd = _open_nameless(directory)
        nameless = fd >= 0
        if not nameless:
            fd = os.open(made, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE, dir_fd=directory)
        with open(fd, "wb") as out:
            yield out
            out.flush()
            if nameless:
                try:
                    _link(fd, directory, name)
                except FileExistsError:
                    _link(fd, directory, made)
                else:
                    return
        put_in_place(directory, made, name)


def _open_nameless(directory: int) -> int:
    try:
        return os.open(".", _FLAGS | os.O_TMPFILE, _MODE, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # the latter: of an old kernel
            raise
        return -1


def _link(fd: int, directory: int, name: str) -> None:
    # With a descriptor of its directory it is linkat(2) that is called, which can follow links.
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory, follow_symlinks=True)
