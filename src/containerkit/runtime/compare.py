"""What a container has written, beside what its image shows in the same places: one walk.

Owns: reading an overlay's upper directory (whiteouts, opaque directories) beside its lowers.
Must not: mount, follow a link in either, or keep more than the directories it is in.
Neighbours: `sameness` says what really differs; `changes` lists what comes out, `written` makes a layer of it; `rootplan` says which
directories these are.

Spec: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self

from containerkit.errors import HostError
from containerkit.runtime.beneath import LEAF, closing
from containerkit.runtime.sameness import (
    AS_THEY_ARE,
    Owners,
    same,
    same_directory,
)
from containerkit.runtime.trees import DEPTH, names_of
from containerkit.state import cancel

Kind = Literal["added", "modified", "deleted", "above"]
Marks = Literal["trusted", "user"]

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST: Final = 4096
"""Characters of a path: whoever is told of a longer one could not open it."""
_ABSENT: Final = frozenset((errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES))


class Found(NamedTuple):
    """One difference, or a directory on the way to one.

    Attributes:
        path: absolute, in the container; "" for the root itself.
        kind: "above" for a directory that is as in the image, with something in it that is not.
        fd: a descriptor, good until the next is asked for: of a directory, for reading; of anything
            else an O_PATH one; -1 for what was deleted.
        status: as it was when it was opened; None for what was deleted.
        hides: a directory in which nothing is shown of what the image has there, told only to who
            asked for it; all that is in it follows, whether it differs or not.
    """

    path: str
    kind: Kind
    fd: int = -1
    status: os.stat_result | None = None
    hides: bool = False


class Comparison:
    """One overlay's upper directory beside its lowers.

    Args:
        target: where it is in the container, "/" for the root.
        hidden: paths that are not looked at, for something is mounted there.
        marks: what overlayfs's own attributes begin with here.
        owners: by which ids owners are counted.
        whole: directories that hide what is below are told as such (`Found.hides`), rather than
            compared with it.
    """

    def __init__(
        self,
        target: str,
        hidden: frozenset[str],
        *,
        marks: Marks,
        owners: Owners = AS_THEY_ARE,
        whole: bool = False,
    ) -> None:
        self._top = target.rstrip("/")
        self._hidden = hidden
        self._towards = {parent for path in hidden for parent in above(path)}
        self._mark = f"{marks}.overlay."
        self._owners = owners
        self._whole = whole
        self._levels: list[_Level] = []

    def run(self, upper: Path, lowers: Sequence[Path]) -> Generator[Found, None, None]:
        """Yield what differs, each directory before what is in it, names in order.

        Raises:
            OSError: something can not be read.
            HostError: directories are below each other too deep.
        """
        with ExitStack() as opened:
            try:
                top = os.open(upper, _OPEN)
            except FileNotFoundError:  # it has never run
                return
            opened.callback(os.close, top)
            below = []
            for path in lowers:
                below.append(os.open(path, _OPEN))
                opened.callback(os.close, below[-1])
            status = os.fstat(top)
            plain = not below or same_directory(
                top, status, below[0], os.fstat(below[0]), self._owners, times=False
            )
            root = Found(self._top, "above" if plain else "modified", top, status)
            self._levels = [_Level(root, below, names_of(top), hidden=False)]
            if not plain:
                yield from self._above()
            try:
                yield from self._walk()
            finally:
                for level in self._levels[1:]:
                    level.opened.close()

    def _walk(self) -> Iterator[Found]:
        while self._levels:
            cancel.check()
            level = self._levels[-1]
            name = next(level.names, None)
            if name is None:
                self._levels.pop().opened.close()
                continue
            where = f"{level.found.path}/{name}"
            if where in self._hidden:
                continue
            if name in level.gone:
                yield from self._tell(Found(where, "deleted"))
                continue
            try:
                found = os.open(name, LEAF, dir_fd=level.found.fd)
            except FileNotFoundError:  # gone since it was listed: nothing could hold it still
                continue
            with closing(found):
                status = os.fstat(found)
                if stat.S_ISDIR(status.st_mode):
                    yield from self._directory(where, name, found, status)
                else:
                    yield from self._file(where, name, found, status)

    def _above(self) -> Iterator[Found]:
        """Yield the directories on the way that were not worth telling until now."""
        for level in self._levels:
            if not level.told:
                level.told = True
                yield level.found

    def _tell(self, found: Found) -> Iterator[Found]:
        yield from self._above()
        yield found

    # ---- kinds

    def _file(self, where: str, name: str, found: int, status: os.stat_result) -> Iterator[Found]:
        level = self._levels[-1]
        with _Lower(name, level.lowers, self._mark) as lower:
            if is_whiteout(found, status, self._mark):
                if lower.status is not None and not (self._whole and level.hidden):
                    yield from self._tell(Found(where, "deleted"))
            elif lower.status is None:
                yield from self._tell(Found(where, "added", found, status))
            elif self._is_needed(status, lower.status) or not same(
                found, status, lower.fd, lower.status, self._owners
            ):
                yield from self._tell(Found(where, "modified", found, status))

    def _is_needed(self, status: os.stat_result, lower: os.stat_result) -> bool:
        """Whether a layer has to have a file even if it is the same: for its names, or to be seen."""
        linked = status.st_nlink > 1 or lower.st_nlink > 1
        return self._whole and (linked or self._levels[-1].hidden)

    def _directory(
        self, where: str, name: str, found: int, status: os.stat_result
    ) -> Iterator[Found]:
        above = self._levels[-1]
        if len(self._levels) > DEPTH or len(where) > _LONGEST:
            raise HostError(
                "cannot look through the container: its directories are too deep",
                errno=errno.ENAMETOOLONG,
            )
        with ExitStack() as opened:
            lower = opened.enter_context(_Lower(name, above.lowers, self._mark))
            directory = os.open(".", _OPEN, dir_fd=found)
            opened.callback(os.close, directory)
            hides = is_opaque(directory, self._mark) and bool(lower.directories)
            targets = where in self._towards
            inside = above.hidden or hides
            names = names_of(directory)
            lazy = False
            kind: Kind = "above"
            if lower.status is None:
                kind = "added"
                # Made for a mount's target, unless there is something else in it.
                lazy = targets and bool(names)
            elif not same_directory(
                directory, status, lower.fd, lower.status, self._owners, times=not targets
            ):
                kind = "modified"  # of a target's making it tells by the time alone
            else:
                lazy = not (self._whole and inside)
            told = Found(where, kind, directory, status, hides and self._whole and not above.hidden)
            level = _Level(told, lower.directories, names, hidden=inside)
            if inside and not self._whole:
                level.add_gone(_names(lower.directories, self._mark))
            level.opened = opened.pop_all()
            self._levels.append(level)
        if not lazy:
            yield from self._above()


class _Level:
    """A directory that the walk is in.

    Attributes:
        found: it.
        lowers: those that it lies over, top first.
        hidden: whether they are not shown.
        told: whether it was yielded.
        names: that are still to come.
        gone: those of them that are only in the lowers.
        opened: what is open for it.
    """

    __slots__ = ("found", "gone", "hidden", "lowers", "names", "opened", "told")

    def __init__(self, found: Found, lowers: list[int], names: list[str], *, hidden: bool) -> None:
        self.found = found
        self.lowers = lowers
        self.hidden = hidden
        self.told = False
        self.gone: frozenset[str] = frozenset()
        self.names = iter(names)
        self.opened = ExitStack()

    def add_gone(self, shown: set[str]) -> None:
        """Add the names that lowers show, and it does not have."""
        names = set(self.names)
        self.gone = frozenset(shown - names)
        self.names = iter(sorted(names | self.gone))


class _Lower:
    """What the lowers show by one name in a directory, as overlayfs merges them.

    Attributes:
        status: None: nothing.
        fd: of the topmost that has it, an O_PATH descriptor; -1 for none.
        directories: those that are merged, top first, open for reading.
    """

    def __init__(self, name: str, lowers: list[int], mark: str) -> None:
        self.status: os.stat_result | None = None
        self.fd = -1
        self.directories: list[int] = []
        self._name = name
        self._lowers = lowers
        self._mark = mark
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
                if is_whiteout(found, status, self._mark):
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
                if is_opaque(directory, self._mark):
                    return


def above(path: str) -> Iterator[str]:
    """Yield the directories that a path lies in, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


def _names(lowers: list[int], mark: str) -> set[str]:
    """Return the names that a merged directory of the lowers shows."""
    shown: set[str] = set()
    hidden: set[str] = set()
    for directory in lowers:
        for name in os.listdir(directory):
            if name not in hidden and name not in shown:
                with closing(os.open(name, LEAF, dir_fd=directory)) as found:
                    gone = is_whiteout(found, os.fstat(found), mark)
                (hidden if gone else shown).add(name)
    return shown


# ---- overlay's marks ---------------------------------------------------------------------------


def _attribute(fd: int, name: str) -> bytes | None:
    """Return an extended attribute; *fd* may be an O_PATH one."""
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", name)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
    return None


def is_whiteout(fd: int, status: os.stat_result, mark: str) -> bool:
    """Whether what was opened says that there is nothing."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    empty = stat.S_ISREG(status.st_mode) and status.st_size == 0
    return empty and _attribute(fd, f"{mark}whiteout") is not None


def is_opaque(directory: int, mark: str) -> bool:
    """Whether a directory shows nothing of those below it."""
    return _attribute(directory, f"{mark}opaque") == b"y"
