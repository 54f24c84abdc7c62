"""Paths in a container, as texts: what is one, and what its last name is.

Owns the grammar only.  Must not touch a file system: where a path leads is decided while it is
opened, beneath the container's root (`runtime.beneath`).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from containerkit.errors import ConfigError, UnsafePath


class Place(NamedTuple):
    """A path, cut before its last name.

    Attributes:
        parent: what comes before; "/" at least.
        name: never empty, "." or "..".
        directory: the path ends in a slash: only a directory is meant.
    """

    parent: str
    name: str
    directory: bool


def container_path(path: str | os.PathLike[str]) -> str:
    """Return a path in a container as text.

    Raises:
        ConfigError: it is empty, not absolute, not text, or holds a NUL.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise ConfigError(f"the path {text!r} is not text")
    if "\0" in text:
        raise ConfigError(f"the path {text!r} holds a NUL")
    if not text.startswith("/"):
        raise ConfigError(
            f"the path {text!r} is not absolute", hint="paths in a container begin with /"
        )
    return text


def cut(path: str) -> Place | None:
    """Cut a path before its last name; None when it has none: "/", "/a/..", "." and the like."""
    bare = path.rstrip("/")
    parent, _, name = bare.rpartition("/")
    if name in {"", ".", ".."}:
        return None
    if not parent:
        parent = "/" if bare.startswith("/") else "."
    return Place(parent, name, path != bare)


def placed(path: str, verb: str) -> Place:
    """Cut a path whose last name is to be made, replaced or removed.

    Raises:
        ConfigError: it has no last name.
    """
    place = cut(path)
    if place is None:
        raise ConfigError(f"cannot {verb} {path}: the path must end in a name")
    return place


def member_parts(name: str) -> tuple[str, ...]:
    """Return the names that an archive member's name consists of; none: the archive's own top.

    A leading slash is dropped, as GNU tar does.

    Raises:
        UnsafePath: ``..`` or a NUL is in it.
    """
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if ".." in parts or "\0" in name:
        raise UnsafePath(
            f"cannot extract {name!r}: it leads out of the archive",
            hint="the archive is hostile or broken",
            entry=name,
        )
    return parts
