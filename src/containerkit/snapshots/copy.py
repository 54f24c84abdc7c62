"""Layers copied into one plain directory, as an overlay of them would show it.

Owns: what is there when layers lie on each other (whiteouts, opaque directories), and the copy of it,
with other ids where wanted.  Must not: know whose layers they are, or why they are copied.
Neighbours: `snapshots.contents` copies one file's data, attributes and metadata; `runtime` decides
where a copy stands in for an overlay.

Nothing recurses and every layer has one directory open, however deep they are; names are looked up in
open directories, and links never followed.

Spec: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from containerkit.errors import CorruptContent, HostError, PermissionDenied
from containerkit.model.idmap import IdMap
from containerkit.snapshots.contents import Contents, marked, open_source

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TOLD: Final = 16
_DENIED: Final = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))


class Merged(NamedTuple):
    """What was copied.

    Attributes:
        entries: files of every kind and directories, the root among them.
        size: bytes of regular files, holes included; what has several names counts once.
        left_out: how many devices this process may not make.
        told: paths of the first of them.
    """

    entries: int
    size: int
    left_out: int
    told: tuple[str, ...]


def merge(
    lowers: Sequence[Path | str],
    destination: Path | str,
    *,
    ids: IdMap | None = None,
    owners: bool = True,
) -> Merged:
    """Copy what an overlay of layers shows into an empty directory.

    On any failure the destination holds a part of it.

    Args:
        lowers: the layers' directories, top first.
        destination: an existing empty directory, into which nobody else puts anything meanwhile.
        ids: whom the owners become; what belongs to others is nobody's then, as on an id-mapped mount.
        owners: False: all becomes this process's own, and has no capabilities, as an ordinary user's.

    Raises:
        CorruptContent: a layer changes meanwhile.
        HostError, PermissionDenied: the file system refuses.

    Blocking: on the disk.
    """
    opened: list[int] = []
    try:
        for path in (destination, *lowers):
            try:
                opened.append(os.open(path, _DIRECTORY))
            except OSError as error:
                raise _failed(str(path), error) from error
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    merger = _Merger(opened[0], opened[1:], Contents(ids, owners=owners))
    try:
        return merger.run()
    finally:
        merger.close()


def merge_inside(
    root: Path,
    stacks: Sequence[tuple[Sequence[Path], Path]],
    ids: IdMap,
    *,
    fds: Sequence[int] = (),
) -> None:
    """Do `merge` for an ordinary user's root, by a process in its user namespace.

    Args:
        root: of the engine.
        stacks: the layers of each, and where its copy is to be.
        ids: as that namespace counts.
        fds: descriptors, of locks say, that the process has too as long as it lives.

    Raises:
        CorruptContent, HostError, PermissionDenied: as of `merge`.
    """
    from containerkit.state.inside import Inside

    paths = [([str(layer) for layer in layers], str(copy)) for layers, copy in stacks]
    arguments = {"stacks": paths, "uids": ids.uids, "gids": ids.gids}
    with Inside(root, f"{__name__}:_merge_stacks", arguments, fds=fds) as inside:
        inside.result()


def _merge_stacks(
    stacks: list[tuple[list[str], str]], uids: list[list[int]], gids: list[list[int]]
) -> None:
    for layers, copy in stacks:
        merge(layers, copy, ids=IdMap(uids, gids))


class _Level(NamedTuple):
    """A directory that is being copied.

    Attributes:
        name: in the one above.
        layers: numbers of those that have a part of it, top first.
        keys: what those are, to be known again when coming back from below.
        pending: the directories in it that are still to be copied: names, and in which layers.
    """

    name: str
    layers: list[int]
    keys: list[tuple[int, int]]
    pending: list[tuple[str, list[int]]]


class _Merger:
    """One copy; each layer, and the copy, is in one directory at a time."""

    def __init__(self, target: int, layers: list[int], contents: Contents) -> None:
        self._target = target
        self._at = layers
        self._contents = contents
        self._links: dict[tuple[int, int, int], str] = {}
        self._staged = -1
        self._stage = f".ck-{secrets.token_hex(16)}"
        self._names = 0
        self._levels: list[_Level] = []
        self._devices = [os.fstat(fd).st_dev for fd in layers]
        self._entries = self._size = self._left_out = 0
        self._told: list[str] = []
        self._now = ""

    def close(self) -> None:
        for fd in (self._target, self._staged, *self._at):
            if fd >= 0:
                os.close(fd)

    def run(self) -> Merged:
        try:
            os.mkdir(self._stage, 0o700, dir_fd=self._target)
            self._staged = os.open(self._stage, _DIRECTORY, dir_fd=self._target)
            self._enter("", list(range(len(self._at))))
            while self._levels:
                level = self._levels[-1]
                if level.pending:
                    self._down(*level.pending.pop())
                else:
                    self._up()
        except OSError as error:
            raise _failed(self._path(self._now), error) from error
        return Merged(self._entries, self._size, self._left_out, tuple(self._told))

    # ---- down and up

    def _down(self, name: str, layers: list[int]) -> None:
        self._now = name
        taking_part = []
        for layer in layers:
            try:
                fd = os.open(name, _DIRECTORY, dir_fd=self._at[layer])
            except (NotADirectoryError, FileNotFoundError):
                break  # a file or a whiteout, which hides those below it
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                break
            os.close(self._at[layer])
            self._at[layer] = fd
            taking_part.append(layer)
            if marked(fd, "opaque") == b"y":
                break
        if not taking_part:
            raise self._changed()
        os.mkdir(name, 0o700, dir_fd=self._target)
        made = os.open(name, _DIRECTORY, dir_fd=self._target)
        os.close(self._target)
        self._target = made
        self._enter(name, taking_part)

    def _enter(self, name: str, layers: list[int]) -> None:
        """Copy what is in the directories that the layers are in now, but for directories."""
        keys = [_key(os.fstat(self._at[layer])) for layer in layers]
        level = _Level(name, layers, keys, [])
        self._levels.append(level)
        self._now = ""
        self._entries += 1
        found: dict[str, list[int]] = {}
        for key, layer in zip(keys, layers, strict=True):
            if key[0] != self._devices[layer]:
                continue  # something is mounted there, which is not the layer's
            with os.scandir(self._at[layer]) as entries:
                for entry in entries:
                    found.setdefault(entry.name, []).append(layer)
        hidden = {layer for layer in layers if marked(self._at[layer], "opaque") == b"x"}
        for each, where in found.items():
            self._now = each
            top = where[0]
            status = os.stat(each, dir_fd=self._at[top], follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                level.pending.append((each, where))
            elif not (_is_whiteout(status) or (top in hidden and self._hides(top, each, status))):
                self._copy(each, top, status)
        self._now = ""

    def _hides(self, layer: int, name: str, status: os.stat_result) -> bool:
        """Whether an empty file of a directory that has such is a whiteout, by an attribute."""
        if not stat.S_ISREG(status.st_mode) or status.st_size:
            return False
        fd = open_source(self._at[layer], name)
        try:
            return marked(fd, "whiteout") is not None
        finally:
            os.close(fd)

    def _up(self) -> None:
        level = self._levels.pop()
        if not self._levels:
            self._unstage()
        self._contents.dress_directory(self._at[level.layers[0]], self._target)
        if not self._levels:
            return
        above = self._levels[-1]
        for layer in level.layers:
            fd = os.open("..", _DIRECTORY, dir_fd=self._at[layer])
            os.close(self._at[layer])
            self._at[layer] = fd
            if _key(os.fstat(fd)) != above.keys[above.layers.index(layer)]:
                raise self._changed()
        fd = os.open("..", _DIRECTORY, dir_fd=self._target)
        os.close(self._target)
        self._target = fd

    # ---- what is no directory

    def _copy(self, name: str, layer: int, status: os.stat_result) -> None:
        key = (layer, *_key(status))
        if status.st_nlink > 1 and key in self._links:
            try:
                os.link(
                    self._links[key],
                    name,
                    src_dir_fd=self._staged,
                    dst_dir_fd=self._target,
                    follow_symlinks=False,
                )
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
            else:
                self._entries += 1
                return
        if self._make(name, layer, status):
            self._entries += 1
            if status.st_nlink > 1:
                self._stage_link(name, key)

    def _make(self, name: str, layer: int, status: os.stat_result) -> bool:
        contents, source = self._contents, self._at[layer]
        if stat.S_ISREG(status.st_mode):
            self._size += contents.copy_file(source, name, self._target)
            return True
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=self._target)
        else:
            kind = stat.S_IFMT(status.st_mode)
            try:
                os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=self._target)
            except PermissionError:
                if not (stat.S_ISCHR(kind) or stat.S_ISBLK(kind)):
                    raise
                self._left_out += 1
                if len(self._told) < _TOLD:
                    self._told.append(self._path(name))
                return False
        contents.dress_name(status, name, self._target)
        return True

    # ---- names of one file: each has one more while the copy lasts, in a directory beside them

    def _stage_link(self, name: str, key: tuple[int, int, int]) -> None:
        staged = str(self._names)
        try:
            os.link(
                name,
                staged,
                src_dir_fd=self._target,
                dst_dir_fd=self._staged,
                follow_symlinks=False,
            )
        except PermissionError:  # its new owner's alone (proc_sys_fs(5), protected_hardlinks)
            return
        self._names += 1
        self._links[key] = staged

    def _unstage(self) -> None:
        for number in range(self._names):
            os.unlink(str(number), dir_fd=self._staged)
        os.rmdir(self._stage, dir_fd=self._target)

    # ---- what to say

    def _path(self, name: str) -> str:
        return "/".join([*(level.name for level in self._levels), name]).rstrip("/") or "/"

    def _changed(self) -> CorruptContent:
        return CorruptContent(
            f"cannot copy {self._path(self._now)} of the image's layers: it changed meanwhile"
        )


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _failed(path: str, error: OSError) -> HostError:
    kind = PermissionDenied if error.errno in _DENIED else HostError
    return kind(f"cannot copy {path} of the image's layers: {error.strerror}", errno=error.errno)
