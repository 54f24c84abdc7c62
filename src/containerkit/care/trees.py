"""Two directory trees compared, entry by entry.

Owns: what makes two trees the same layer: names, kinds, modes, owners, times of files, contents,
extended attributes.  Must not: follow a link, or change anything.
Neighbour: `care.check`, which compares a layer's tree with its blob unpacked again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from containerkit.state.inside import Inside

_CHUNK: Final = 1 << 20


def difference(one: str, other: str) -> str | None:
    """Return the first difference of two trees, in words; None when there is none.

    Each directory is opened in its parent: a layer's paths may be longer than the kernel takes.

    Args:
        one: path of a directory.
        other: path of what it should be like.

    Raises:
        OSError: one of them can not be read.
    """
    with contextlib.ExitStack() as opened:
        return _difference(_open(one, opened), _open(other, opened), "")


def difference_inside(root: Path, one: Path, other: Path) -> str | None:
    """Return the same of two trees of a root, also of what an ordinary user may not open itself.

    Raises:
        FileNotFoundError: one of them is gone.
        HostError: one of them can not be read.
    """
    names = {"one": str(one), "other": str(other)}
    try:
        return difference(**names)
    except PermissionError:  # a directory of a layer may have any mode, and another owner
        with Inside(root, f"{__name__}:{difference.__name__}", names) as inside:
            found: str | None = inside.result()
            return found


def _difference(one: int, other: int, inside: str) -> str | None:
    ours, theirs = sorted(os.listdir(one)), sorted(os.listdir(other))
    if ours != theirs:
        name = min(set(ours) ^ set(theirs))
        return f"{inside}/{name} {'was added' if name in ours else 'is missing'}"
    for name in ours:
        here, there = f"/proc/self/fd/{one}/{name}", f"/proc/self/fd/{other}/{name}"
        path = f"{inside}/{name}"
        found = _entry(here, there)
        if found is not None:
            return f"{path}: {found}"
        if stat.S_ISDIR(os.lstat(here).st_mode):
            with contextlib.ExitStack() as opened:  # as deep as layers may be: 256
                found = _difference(_open(here, opened), _open(there, opened), path)
            if found is not None:
                return found
    return None


def _open(path: str, opened: contextlib.ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    opened.callback(os.close, fd)
    return fd


def _entry(one: str, other: str) -> str | None:
    ours, theirs = os.lstat(one), os.lstat(other)
    if ours.st_mode != theirs.st_mode:
        return f"mode {ours.st_mode:o} instead of {theirs.st_mode:o}"
    if (ours.st_uid, ours.st_gid) != (theirs.st_uid, theirs.st_gid):
        return f"owner {ours.st_uid}:{ours.st_gid} instead of {theirs.st_uid}:{theirs.st_gid}"
    if _attributes(one) != _attributes(other):
        return "other extended attributes"
    kind = stat.S_IFMT(ours.st_mode)
    if kind == stat.S_IFLNK and os.readlink(one) != os.readlink(other):
        return f"a link to {os.readlink(one)!r} instead of {os.readlink(other)!r}"
    if kind in (stat.S_IFCHR, stat.S_IFBLK) and ours.st_rdev != theirs.st_rdev:
        return "another device"
    if kind == stat.S_IFREG:
        if ours.st_size != theirs.st_size:
            return f"{ours.st_size} bytes instead of {theirs.st_size}"
        if ours.st_mtime_ns != theirs.st_mtime_ns:
            return "another time of change"
        if not _same_content(one, other):
            return "other bytes"
    return None


def _attributes(path: str) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }


def _same_content(one: str, other: str) -> bool:
    with open(one, "rb") as ours, open(other, "rb") as theirs:
        while chunk := ours.read(_CHUNK):
            if chunk != theirs.read(_CHUNK):
                return False
    return True
