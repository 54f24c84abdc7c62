"""What a container gets mounted beside its root.

Owns the `Mount` value and the grammar of targets.  Must not look at the host: whether a source is
there is seen when the container is created.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final, Literal

import attrs

from containerkit.errors import ConfigError
from containerkit.model.limits import parse_size

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


def _text(path: str | os.PathLike[str], what: str) -> str:
    found: Any = os.fspath(path)
    if not isinstance(found, str):
        raise ConfigError(f"{what} {found!r} is not text", hint="use os.fsdecode()")
    return found


def check_target(target: str | os.PathLike[str], *, what: str = "mount target") -> str:
    """Return a path inside the container, absolute and without ``.``, ``..`` or double slashes.

    Raises:
        ConfigError: relative, climbing, too long, or with a NUL.
    """
    path = _text(target, what)
    if not path.startswith("/") or "\0" in path or len(path) > 4095:
        raise ConfigError(f"{what} {path!r} is not an absolute path")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise ConfigError(f"{what} {path!r} must not climb with ..")
    return "/" + "/".join(parts)


@attrs.frozen
class Mount:
    """One mount of a container; made by `bind`, `volume`, `tmpfs` and `image`.

    Attributes:
        kind: which of the four.
        source: absolute host path, volume's name, or image; empty for a tmpfs.
        target: absolute path inside the container.
        read_only: the container can not write through it.
        size_bytes: of a tmpfs; None: half of the host's memory, the kernel's default.
        mode: of a tmpfs' root directory.
    """

    kind: Literal["bind", "volume", "tmpfs", "image"]
    source: str
    target: str = attrs.field(converter=check_target)
    read_only: bool = False
    size_bytes: int | None = None
    mode: int = attrs.field(default=0o1777, repr=oct)

    @classmethod
    def bind(
        cls,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        read_only: bool = False,  # noqa: FBT001, FBT002 - as in the contract of the surface
    ) -> Mount:
        """A file or directory of the host, with what is mounted below it.

        Args:
            source: a relative one counts from the current directory, now.
            target: absolute path inside the container; made if it is missing.
            read_only: also for what is mounted below it.

        Raises:
            ConfigError: an empty source, a bad target.
        """
        path = _text(source, "mount source")
        if not path or "\0" in path:
            raise ConfigError(f"mount source {path!r} is not a path")
        return cls("bind", os.path.abspath(path), target, read_only)

    @classmethod
    def volume(
        cls,
        name: str,
        target: str | os.PathLike[str],
        read_only: bool = False,  # noqa: FBT001, FBT002 - as bind
    ) -> Mount:
        """A named volume of the engine."""
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is not a volume's name")
        return cls("volume", name, target, read_only)

    @classmethod
    def tmpfs(
        cls,
        target: str | os.PathLike[str],
        *,
        size: int | str | None = None,
        mode: int = 0o1777,
        read_only: bool = False,
    ) -> Mount:
        """An empty file system in memory, gone with the container.

        Args:
            target: absolute path inside the container.
            size: bytes or text ("64m"); its pages count against the memory limit.
            mode: permission bits of its root directory.
            read_only: an empty place nobody can write to.
        """
        if not 0 <= mode <= 0o7777:
            raise ConfigError(f"tmpfs mode {mode:#o} is out of range")
        size_bytes = None if size is None else max(parse_size(size, what="tmpfs size"), 4096)
        return cls("tmpfs", "", target, read_only, size_bytes, mode)

    @classmethod
    def image(cls, image: Any, target: str | os.PathLike[str]) -> Mount:
        """The files of another image, read-only."""
        return cls("image", str(image), target, read_only=True)
