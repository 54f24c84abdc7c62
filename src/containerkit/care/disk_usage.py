"""`engine.disk_usage()`: what takes how much of the disk.

Owns: the walk over a root.  Must not: judge what could go; `care.prune` and `snapshots.gc` do.
Never fails on what vanishes meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from containerkit.model.usage import DiskUsage, Space
from containerkit.state import userns
from containerkit.state.inside import Inside

_BLOCK: Final = 512
"""The unit of ``st_blocks``, whatever the file system's own (stat(3type))."""

DEPTH: Final = 512
"""Directories below each other that are looked into: each is a descriptor."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Seen = set[tuple[int, int]]


def disk_usage(root: Path) -> DiskUsage:
    """Add up what lies in a root; see `Engine.disk_usage`."""
    try:
        return _added_up(root)
    except PermissionError:
        # In an ordinary user's root, directories are closed to it that are open to its namespace.
        if not userns.is_needed():
            raise
    with Inside(root, f"{__name__}:spaces", {"root": str(root)}) as inside:
        return DiskUsage(*(Space(count, size) for count, size in inside.result()))


def spaces(root: str) -> list[tuple[int, int]]:
    """Add up within the user namespace; see `disk_usage`."""
    found = _added_up(Path(root))
    four = (found.images, found.layers, found.containers, found.cache)
    return [(space.count, space.size) for space in four]


def _added_up(root: Path) -> DiskUsage:
    seen: Seen = set()  # a file with several names is counted where it is met first
    layers, others = _split(root / "layers")
    containers, ahead = _split(root / "containers")
    return DiskUsage(
        images=_space(_files(root / "blobs"), seen),
        layers=_space(layers, seen),
        containers=_space(containers, seen),
        cache=_space([*_files(root / "ingest"), *others, *ahead, *_children(root / "host")], seen),
    )


def _split(directory: Path) -> tuple[list[str], list[str]]:
    """Return what has a name of its own in a directory, and what is on its way or made ahead."""
    paths = _children(directory)
    hidden = [path for path in paths if os.path.basename(path).startswith(".")]
    return [path for path in paths if path not in hidden], hidden


def _children(directory: Path) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(directory)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(directory: Path) -> list[str]:
    """Return the files two levels down: blobs lie below their algorithm."""
    return [
        path
        for child in _children(directory)
        for path in (_children(Path(child)) if os.path.isdir(child) else [child])
    ]


def _space(paths: Iterable[str], seen: Seen) -> Space:
    sizes = [_size(path, seen) for path in paths]
    return Space(len(sizes), sum(sizes))


def _size(top: str, seen: Seen) -> int:
    size = 0
    for status in _statuses(top):
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            key = (status.st_dev, status.st_ino)
            if key in seen:
                continue
            seen.add(key)
        size += status.st_blocks * _BLOCK
    return size


def _statuses(top: str) -> Iterator[os.stat_result]:
    """Yield the status of a path and of all beneath it.

    Containers change what is looked at, and may nest it deeper than a path can be long: each
    directory is opened in its parent, which stays open, and what is deeper than `DEPTH` is left out.
    """
    levels: list[tuple[int | None, list[str]]] = [(None, [top])]
    try:
        while levels:
            parent, names = levels[-1]
            if not names:
                _close(levels.pop()[0])
                continue
            name = names.pop()
            try:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and len(levels) <= DEPTH:
                    fd = os.open(name, _DIRECTORY, dir_fd=parent)
                    levels.append((fd, []))
                    levels[-1][1].extend(os.listdir(fd))
            except (FileNotFoundError, NotADirectoryError):
                continue
            yield status
    finally:
        for fd_or_none, _ in levels:
            _close(fd_or_none)


def _close(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)
