"""The files of a container: `Container.files`.

Owns: the methods, what each promises, the names in their errors.  Where a path leads is decided by
`beneath`, what a copy takes along by `copies`, tars by `archive` and `extract`.

Every path is absolute and resolved beneath the container's root, links included, however the
contained processes change it meanwhile.  A call sees mounts as the container does.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, overload

from containerkit.runtime import hands, trees
from containerkit.runtime.beneath import (
    DIRECTORY,
    HOST,
    LEAF,
    RootSide,
    attempt,
    closing,
    leaf,
    make_directory,
    make_parents,
    open_file,
)
from containerkit.runtime.copies import Copied, Copier, Owner, Rules
from containerkit.runtime.fileinfo import FileInfo
from containerkit.runtime.opening import opened
from containerkit.runtime.paths import container_path, cut, placed
from containerkit.runtime.whole import (
    ROOT_OWNER,
    WHOLE,
    info_at,
    read_whole,
    replace_whole,
    size_limit,
    stat_at,
)

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap
    from containerkit.runtime.archive import TarStream
    from containerkit.runtime.contents import Reach
    from containerkit.runtime.extract import Tar

StrPath = str | os.PathLike[str]
_Binary = Literal["rb", "wb", "ab", "xb", "rb+", "wb+", "ab+", "xb+", "r+b", "w+b", "a+b", "x+b"]
_Text = Literal["r", "w", "a", "x", "r+", "w+", "a+", "x+", "rt", "wt", "at", "xt"]


class Files:
    """Reads and writes the files of one container.

    Paths are absolute, and never lead out of the container's root: not by ``..``, not by a link.  Of a
    container that does not run, files are mounted for the time of a call, as its start would; a start
    of it waits meanwhile.

    Errors are both this package's and the builtin that `pathlib.Path` would raise: `FileNotFound`,
    `FileExists`, `IsADirectory`, `NotADirectory`, `PermissionDenied` (also of read-only mounts),
    `SpecialFile` for what is no regular file, `FileError` for the rest.  `InvalidStatus`: the container
    was removed.
    """

    __slots__ = ("_ids", "_reach")

    def __init__(self, reach: Reach, ids: Callable[[], IdMap | None] = lambda: None) -> None:
        self._reach = reach
        self._ids = ids

    def _side(self, root: int) -> RootSide:
        return RootSide(root, self._ids())

    # ---- content

    def read_bytes(self, path: StrPath, *, max_size: int | str | None = WHOLE) -> bytes:
        """Return the content of a file.

        Args:
            path: links are followed.
            max_size: bytes, or a size as "1MiB"; a larger file raises `FileTooLarge`; None: any.
        """
        where, limit = container_path(path), size_limit(max_size)
        with (
            self._reach() as root,
            attempt("read", where),
            closing(open_file(self._side(root), where, os.O_RDONLY)) as fd,
        ):
            return read_whole(fd, where, limit)

    def read_text(
        self,
        path: StrPath,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        max_size: int | str | None = WHOLE,
    ) -> str:
        """Return the content of a file as text; arguments as `read_bytes` and `bytes.decode`."""
        return self.read_bytes(path, max_size=max_size).decode(encoding, errors)

    def write_bytes(
        self,
        path: StrPath,
        data: bytes | bytearray | memoryview,
        *,
        mode: int | None = None,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Write a file, new or replaced as a whole.

        Args:
            path: its directory exists; links are followed.
            data: all of its content.
            mode: permission bits; None: as before, 0644 for a new one.
            owner: user and group; None: as before, root for a new one.

        Atomicity: others see the old file or the new one, with another inode number.  Where a file
        is mounted on the path it is written in place.
        """
        where = container_path(path)
        with self._reach() as root, attempt("write", where):
            side = self._side(root)
            parent, name = leaf(side, where, "write")
            with closing(parent):
                replace_whole(parent, name, data, mode, side.owner(owner), side.maker)

    def write_text(
        self,
        path: StrPath,
        text: str,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        mode: int | None = None,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Write text to a file; arguments as `write_bytes` and `str.encode`."""
        self.write_bytes(path, text.encode(encoding, errors), mode=mode, owner=owner)

    @overload
    def open(self, path: StrPath, mode: _Binary, *, buffering: int = -1) -> BinaryIO: ...

    @overload
    def open(
        self,
        path: StrPath,
        mode: _Text = "r",
        *,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> TextIO: ...

    def open(
        self,
        path: StrPath,
        mode: _Binary | _Text = "r",
        *,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file as the builtin `open` does; text is UTF-8 unless said otherwise.

        The file object works on the file itself, in place, until it is closed; it may outlive the
        container's run.  A file that it makes has mode 0644 and belongs to root.
        """
        where = container_path(path)
        with self._reach() as root, attempt("open", where):
            return opened(self._side(root), where, mode, buffering, encoding, errors, newline)

    # ---- names

    def list(self, path: StrPath = "/") -> tuple[FileInfo, ...]:
        """Return what is in a directory, by name; links as links."""
        where, ids = container_path(path), self._ids()
        found: builtins.list[FileInfo] = []
        with (
            self._reach() as root,
            attempt("list", where),
            closing(self._side(root).open(where, os.O_RDONLY | os.O_DIRECTORY)) as directory,
        ):
            for name in trees.names_of(directory):
                with contextlib.suppress(FileNotFoundError):  # gone since
                    found.append(stat_at(directory, name, ids))
        return tuple(found)

    def stat(self, path: StrPath, *, follow_symlinks: bool = True) -> FileInfo:
        """Return what is known of a file.

        Args:
            path: of anything, also a device.
            follow_symlinks: False: of a link itself, if it is one.
        """
        where = container_path(path)
        with self._reach() as root, attempt("look at", where):
            flags = os.O_PATH if follow_symlinks else LEAF
            with closing(self._side(root).open(where, flags)) as found:
                name = where.rstrip("/").rpartition("/")[2] or "/"
                return info_at(found, name, self._ids())

    def exists(self, path: StrPath) -> bool:
        """Return whether there is something, at the end of all links."""
        try:
            self.stat(path)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return False
            raise
        return True

    def mkdir(
        self,
        path: StrPath,
        *,
        mode: int = 0o755,
        parents: bool = False,
        exist_ok: bool = False,
        owner: tuple[int, int] = ROOT_OWNER,
    ) -> None:
        """Make a directory.

        Args:
            path: its own.
            mode: permission bits, whatever the umask.
            parents: make what is missing above it too, with 0755.
            exist_ok: a directory that is there already is fine, and stays as it is.
            owner: user and group.
        """
        where = container_path(path)
        with self._reach() as root, attempt("make the directory", where):
            side = self._side(root)
            if exist_ok:
                with contextlib.suppress(FileNotFoundError), closing(side.open(where, DIRECTORY)):
                    return
            place = placed(where, "make the directory")
            above = make_parents(side, place.parent) if parents else None
            with closing(side.open(place.parent, DIRECTORY) if above is None else above) as parent:
                try:
                    make_directory(parent, place.name, mode, side.owner(owner))
                except FileExistsError:
                    if not exist_ok:
                        raise
                    os.close(side.open(where, DIRECTORY))

    def remove(self, path: StrPath, *, recursive: bool = False, missing_ok: bool = False) -> None:
        """Remove a file, link or empty directory.

        Args:
            path: a link is removed itself.
            recursive: a directory with all that is in it; not if something is mounted there.
            missing_ok: nothing there is fine.
        """
        where = container_path(path)
        place = placed(where, "remove")
        with self._reach() as root, attempt("remove", where):
            try:
                with closing(self._side(root).open(place.parent, DIRECTORY)) as parent:
                    trees.remove(parent, place.name, recursive=recursive)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def rename(self, old: StrPath, new: StrPath) -> None:
        """Rename a file or directory, replacing a file, or an empty directory, of the new name."""
        source, target = container_path(old), container_path(new)
        here, there = placed(source, "rename"), placed(target, "rename")
        with self._reach() as root, attempt(f"rename {source} to", target):
            side = self._side(root)
            with (
                closing(side.open(here.parent, DIRECTORY)) as old_parent,
                closing(side.open(there.parent, DIRECTORY)) as new_parent,
            ):
                hands.rename(here.name, there.name, src_dir_fd=old_parent, dst_dir_fd=new_parent)

    # ---- copies

    def get(
        self,
        remote: StrPath,
        local: StrPath,
        *,
        owner: Owner = None,
        max_size: int | str | None = None,
    ) -> Copied:
        """Copy a file or tree out of the container, as ``docker cp`` does.

        Into a directory that is there it goes under its own name, else it gets the name given.  A
        directory written with ``/.`` at its end means what is in it.  Modes, times, links, holes
        and ``user.*`` attributes come along; set-id bits and file capabilities do not.  Nothing is
        written outside of *local*, whatever is copied.

        Args:
            remote: in the container; of a link, what it leads to in there. Links beneath stay links.
            local: on this host; what is above it exists.
            owner: of the copies; None: this process's user; "keep": the numbers in the container.
            max_size: bytes of content in all, or a size; more raise `FileTooLarge`.

        Returns:
            What was copied; devices and sockets in a tree are left out and named.

        Atomicity: each file appears whole; a tree does not, and a failure leaves a part.
        """
        from containerkit.runtime.transfer import transfer

        where, there = container_path(remote), os.fspath(local)
        copier = Copier(Rules(owner, max_size=size_limit(max_size), source=self._ids()), where)
        with self._reach() as root, attempt(f"copy {where} to", there):
            transfer(self._side(root), where, HOST, there, copier)
        return copier.result()

    def put(
        self,
        local: StrPath,
        remote: StrPath,
        *,
        owner: Owner = ROOT_OWNER,
        max_size: int | str | None = None,
    ) -> Copied:
        """Copy a file or tree into the container, as ``docker cp`` does; see `get`.

        Args:
            local: on this host.
            remote: in the container; what is above it exists.
            owner: of the copies, as numbers; "keep": as here.
            max_size: bytes of content in all, or a size; more raise `FileTooLarge`.

        Returns:
            What was copied; devices and sockets in a tree are left out and named.
        """
        from containerkit.runtime.transfer import transfer

        here, where = os.fspath(local), container_path(remote)
        limit = size_limit(max_size)
        copier = Copier(Rules(owner, trusted=True, max_size=limit, target=self._ids()), here)
        with self._reach() as root, attempt(f"copy {here} to", where):
            transfer(HOST, here, self._side(root), where, copier)
        return copier.result()

    # ---- tars

    def archive(self, path: StrPath, *, max_size: int | str | None = None) -> TarStream:
        """Return a tar of a file or tree, made while it is read.

        Args:
            path: its last name is the archive's top; "/" and "/dir/." put their content there.
            max_size: bytes of content in all, holes included; more raise `FileTooLarge` in between.

        Returns:
            A binary file, to be read, iterated over, or given to `extract`; close it.
        """
        from containerkit.runtime.archive import TarStream, tar_pieces

        where, limit = container_path(path), size_limit(max_size)
        name = place.name if (place := cut(where)) else ""
        with ExitStack() as stack, attempt("archive", where):
            root = stack.enter_context(self._reach())
            top = stack.enter_context(closing(self._side(root).open(where, LEAF)))
            pieces = tar_pieces(top, name, ids=self._ids(), max_size=limit)
            return TarStream(pieces, where, stack.pop_all())

    def extract(
        self,
        path: StrPath,
        tar: Tar,
        *,
        owner: Owner = "keep",
        max_size: int | str | None = None,
    ) -> Copied:
        """Extract a tar into a directory of the container.

        Args:
            path: the directory, which exists.
            tar: a binary file, its bytes, pieces of them, or a path on this host; plain, gzip,
                bzip2 or xz.
            owner: of everything; "keep": the tar's numbers.
            max_size: bytes of content in all, or a size.

        Returns:
            What was made; devices are left out and named.

        Raises:
            ArchiveError: it is no tar, or a broken one.
            UnsafePath: a member's name or hard link has ``..`` in it.
        """
        from containerkit.runtime.extract import Extractor

        where, limit = container_path(path), size_limit(max_size)
        rules = Rules(owner, trusted=True, max_size=limit, target=self._ids())
        with self._reach() as root, attempt("extract into", where):
            return Extractor(self._side(root), where, rules).run(tar)
