"""Comparing two unpacked layers: every entry, all metadata, every byte.

Owns the listing; says nothing of who made the trees.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

_SHOWN = 5


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Describe each entry below `root` by its path.

    Type, mode, owner, device number, time in nanoseconds, extended attributes, link target or
    content hash, and for hard links the first path of the same file.  The root's own time is no
    part of a layer and is left out.
    """
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    stack = [""]
    while stack:
        directory = stack.pop()
        with os.scandir(root / directory) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = os.path.join(directory, entry.name)
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    stack.append(path)
                found[path] = _describe(root / path, path, status, first)
    return found


def _describe(
    full: Path, path: str, status: os.stat_result, first: dict[int, str]
) -> tuple[object, ...]:
    kind = stat.S_IFMT(status.st_mode)
    attributes = tuple(
        (name, os.getxattr(full, name, follow_symlinks=False))
        for name in sorted(os.listxattr(full, follow_symlinks=False))
    )
    content: object = None
    if kind == stat.S_IFLNK:
        content = os.readlink(full)
    elif kind == stat.S_IFREG:
        with full.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
        content = status.st_rdev
    link = None
    if status.st_nlink > 1 and kind != stat.S_IFDIR:
        link = first.setdefault(status.st_ino, path)
    owner = status.st_uid, status.st_gid
    return status.st_mode, owner, status.st_mtime_ns, attributes, content, link


def differences(ours: Path, theirs: Path) -> list[str]:
    """Return what differs between two trees, in words; empty when they are identical.

    Hard links are compared as sets: which of the names was scanned first does not matter, for
    both are scanned in the same order.
    """
    mine, other = listing(ours), listing(theirs)
    found = [f"only in {ours.name}: {path}" for path in sorted(mine.keys() - other.keys())]
    found += [f"only in {theirs.name}: {path}" for path in sorted(other.keys() - mine.keys())]
    for path in sorted(mine.keys() & other.keys()):
        if mine[path] != other[path]:
            found.append(f"{path}: {mine[path]} is not {other[path]}")
    return found


def summary(found: list[str]) -> str:
    """Return the first differences on one line."""
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more
