"""What a container has changed in its files, against its image: `Container.diff`.

Owns: reading an overlay's upper directory (whiteouts, opaque directories) beside its lowers, and
deciding what really differs: overlayfs copies a file up as soon as it is opened for writing.
Must not: mount, or follow a link in either.
Neighbours: `rootplan` says which directories these are.

Spec: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

import attrs

from containerkit.errors import HostError
from containerkit.runtime import trees
from containerkit.runtime.beneath import LEAF, closing, reopen
from containerkit.runtime.copies import CHUNK

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap
    from containerkit.runtime.rootplan import RootPlan, Stack

Kind = Literal["added", "modified", "deleted"]

_LONGEST: Final = 4096
"""Characters of a path: whoever is told of a longer one could not open it."""
_MARKS: Final = ("trusted.overlay.", "user.overlay.")
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Owners(NamedTuple):
    """By which ids owners are counted; None: as they are.

    Attributes:
        upper: what the container has written.
        lowers: its image's layers.
    """

    upper: IdMap | None = None
    lowers: IdMap | None = None


AS_THEY_ARE: Final = Owners()


@attrs.frozen(order=True)
class Change:
    """One difference between a container's files and its image.

    Args:
        path: absolute, in the container.
        kind: "added", "modified" (content or what `stat` says; a directory also when something in
            it changed) or "deleted" (with all that was in it).
    """

    path: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind[0].upper() if self.kind != 'modified' else 'C'} {self.path}"


def changes_of(
    root: RootPlan, store: Path, container: Path, ids: Owners = AS_THEY_ARE
) -> tuple[Change, ...]:
    """Return what differs, in the order of paths.

    Args:
        root: of the container.
        store: the engine's root, where lowers lie.
        container: its directory, which holds ``upper``.
        ids: owners lie on disk as the host has them.

    Raises:
        OSError: something can not be read.
    """
    found: dict[str, Kind] = {}
    # Targets come after the stack that they lie in; what was changed in one changes those above.
    for overlay in root.stacks:
        if overlay.upper is not None:
            hidden = root.mounted | root.files | {other.target for other in root.stacks}
            compared = _Comparison(overlay, hidden - {overlay.target}, ids)
            found |= compared.run(store, container / "upper" / overlay.upper)
    for path in list(found):
        for parent in _above(path):
            found.setdefault(parent, "modified")
    return tuple(sorted(Change(path, kind) for path, kind in found.items()))


def _above(path: str) -> Iterator[str]:
    """Yield the directories that a path lies in, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


class _Comparison:
    """One overlay's upper directory beside its lowers."""

    def __init__(self, overlay: Stack, hidden: frozenset[str], ids: Owners) -> None:
        self._overlay = overlay
        self._ids = ids
        self._hidden = hidden
        self._found: dict[str, Kind] = {}

    def run(self, store: Path, upper: Path) -> dict[str, Kind]:
        with ExitStack() as opened:
            try:
                top = os.open(upper, _OPEN)
            except FileNotFoundError:  # it has never run
                return {}
            opened.callback(os.close, top)
            lowers = [os.open(store / lower, _OPEN) for lower in self._overlay.lowers]
            for fd in lowers:
                opened.callback(os.close, fd)
            try:
                self._directory(self._overlay.target.rstrip("/"), top, lowers)
            except RecursionError:  # some 300 below each other; of no use to who reads the paths
                raise _too_deep() from None
        return self._found

    def _directory(self, path: str, upper: int, lowers: list[int]) -> bool:
        """Compare what is in a directory of both; say whether all that is new is mount targets."""
        if len(path) > _LONGEST:
            raise _too_deep()
        names = trees.names_of(upper)
        only_targets = bool(names)
        if _is_opaque(upper):
            for name in _names(lowers) - set(names):
                self._found[f"{path}/{name}"] = "deleted"
        for name in names:
            where = f"{path}/{name}"
            if where in self._hidden:
                continue
            with closing(os.open(name, LEAF, dir_fd=upper)) as found:
                only_targets &= self._entry(where, name, found, lowers)
        return only_targets

    def _entry(self, path: str, name: str, found: int, lowers: list[int]) -> bool:
        status = os.fstat(found)
        if _is_whiteout(found, status):
            with _Lower(name, lowers) as lower:
                if lower.status is not None:
                    self._found[path] = "deleted"
            return False
        with _Lower(name, lowers) as lower:
            if not stat.S_ISDIR(status.st_mode):
                if lower.status is None:
                    self._found[path] = "added"
                elif not _same(found, status, lower.fd, lower.status, self._ids):
                    self._found[path] = "modified"
                return False
            with closing(os.open(".", _OPEN, dir_fd=found)) as directory:
                return self._subdirectory(path, directory, status, lower)

    def _subdirectory(
        self, path: str, directory: int, status: os.stat_result, lower: _Lower
    ) -> bool:
        before = len(self._found)
        only_targets = self._directory(path, directory, lower.directories)
        if lower.status is None:
            if not only_targets:
                self._found[path] = "added"
            return only_targets
        inside = len(self._found) > before
        targets = any(target.startswith(path + "/") for target in self._hidden)
        # Making a mount's target is no change of the container's: it tells by the time alone.
        if inside or not _same_directory(directory, status, lower, self._ids, times=not targets):
            self._found[path] = "modified"
        return False


def _too_deep() -> HostError:
    return HostError(
        "cannot compare the container with its image: its directories are too deep",
        errno=errno.ENAMETOOLONG,
    )


class _Lower:
    """What the lowers show by one name in a directory, as overlayfs merges them.

    Attributes:
        status: None: nothing.
        fd: of the topmost that has it, an O_PATH descriptor; -1 for none.
        directories: those that are merged, top first, open for reading.
    """

    def __init__(self, name: str, lowers: list[int]) -> None:
        self.status: os.stat_result | None = None
        self.fd = -1
        self.directories: list[int] = []
        self._name = name
        self._lowers = lowers
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._look(stack)
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _look(self, stack: ExitStack) -> None:
        for parent in self._lowers:
            try:
                found = os.open(self._name, LEAF, dir_fd=parent)
            except FileNotFoundError:
                found = -1
            if found >= 0:
                stack.callback(os.close, found)
                status = os.fstat(found)
                if _is_whiteout(found, status):
                    return
                is_directory = stat.S_ISDIR(status.st_mode)
                if self.status is None:
                    self.status, self.fd = status, found
                elif not is_directory:
                    return
                if not is_directory:
                    return
                directory = os.open(".", _OPEN, dir_fd=found)
                stack.callback(os.close, directory)
                self.directories.append(directory)
                if _is_opaque(directory):
                    return


def _names(lowers: list[int]) -> set[str]:
    """Return the names that a merged directory of the lowers shows."""
    shown: set[str] = set()
    hidden: set[str] = set()
    for directory in lowers:
        for name in os.listdir(directory):
            if name not in hidden and name not in shown:
                with closing(os.open(name, LEAF, dir_fd=directory)) as found:
                    gone = _is_whiteout(found, os.fstat(found))
                (hidden if gone else shown).add(name)
    return shown


# ---- overlay's marks ---------------------------------------------------------------------------


def _attribute(fd: int, name: str) -> bytes | None:
    """Return an extended attribute of overlay's own; *fd* may be an O_PATH one."""
    for prefix in _MARKS:
        try:
            return os.getxattr(f"/proc/self/fd/{fd}", prefix + name)
        except OSError as error:
            if error.errno not in {errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES}:
                raise
    return None


def _is_whiteout(fd: int, status: os.stat_result) -> bool:
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    empty = stat.S_ISREG(status.st_mode) and status.st_size == 0
    return empty and _attribute(fd, "whiteout") is not None


def _is_opaque(directory: int) -> bool:
    return _attribute(directory, "opaque") == b"y"


# ---- sameness ----------------------------------------------------------------------------------


def _same(fd: int, status: os.stat_result, other: int, lower: os.stat_result, ids: Owners) -> bool:
    """Whether two files, neither a directory, are the same to a user."""
    if _told(status, ids.upper) != _told(lower, ids.lowers) or status.st_rdev != lower.st_rdev:
        return False
    if status.st_mtime_ns != lower.st_mtime_ns:
        return False
    if stat.S_ISLNK(status.st_mode):
        return os.readlink("", dir_fd=fd) == os.readlink("", dir_fd=other)
    if not stat.S_ISREG(status.st_mode):
        return True
    return (
        status.st_size == lower.st_size
        and _attributes(fd) == _attributes(other)
        and _same_content(fd, other)
    )


def _same_directory(
    directory: int,
    status: os.stat_result,
    lower: _Lower,
    ids: Owners,
    *,
    times: bool,
) -> bool:
    assert lower.status is not None
    if _told(status, ids.upper) != _told(lower.status, ids.lowers):
        return False
    if times and status.st_mtime_ns != lower.status.st_mtime_ns:
        return False
    return _attributes(directory) == _attributes(lower.fd)


def _told(status: os.stat_result, ids: IdMap | None) -> tuple[int, int, int]:
    owner = status.st_uid, status.st_gid
    return (status.st_mode, *(owner if ids is None else ids.inside(*owner)))


def _attributes(fd: int) -> dict[str, bytes]:
    where = f"/proc/self/fd/{fd}"
    try:
        names = [name for name in os.listxattr(where) if not name.startswith(_MARKS)]
        return {name: os.getxattr(where, name) for name in names}
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise


def _same_content(fd: int, other: int) -> bool:
    with closing(reopen(fd, os.O_RDONLY)) as mine, closing(reopen(other, os.O_RDONLY)) as theirs:
        while True:
            chunk = os.read(mine, CHUNK)
            if chunk != os.read(theirs, CHUNK):
                return False
            if not chunk:
                return True
