"""Descriptors that a start sends to the launcher: pipes, trees of the host, secrets.

Owns: opening them, and closing what a run under way holds, here and in a forked child.  Must not:
send them.  Neighbours: `runner` hands them over; `stdio.collect` reads and writes the pipes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from containerkit.errors import ConfigError, HostError, refusals
from containerkit.state import userns

if TYPE_CHECKING:
    from containerkit.launch.plan import Input
    from containerkit.model.mount import Mount
    from containerkit.model.options import ContainerOptions

_ours: set[int] = set()
"""Ends of pipes of runs under way.  A forked child that kept a copy would keep a container's input
from ending."""


def close(fd: int) -> None:
    """Close an end of a pipe."""
    _ours.discard(fd)  # first: the number may be somebody else's as soon as it is closed
    os.close(fd)


def close_all(fds: Iterable[int]) -> None:
    """Close ends of pipes."""
    for fd in fds:
        close(fd)


def own(fds: Iterable[int]) -> None:
    """Take ends over that were made elsewhere; `close` closes them."""
    _ours.update(fds)


def hand_over(fds: Iterable[int]) -> None:
    """Leave ends of pipes to somebody else, who closes them from now on, in forked children too."""
    _ours.difference_update(fds)


def _forked() -> None:
    while _ours:
        close(_ours.pop())


os.register_at_fork(after_in_child=_forked)


@refusals("open a descriptor once more")
def duplicated(fd: int) -> int:
    """Return another descriptor of the same open file."""
    return os.dup(fd)


def make_pipes(streams: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return our ends and the container's ends of a pipe for each of these streams, by stream."""
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    try:
        for name in streams:
            reads, writes = (theirs, ours) if name == "stdin" else (ours, theirs)
            reads[name], writes[name] = os.pipe()
    except OSError as error:
        close_all((*ours.values(), *theirs.values()))
        raise HostError(
            f"cannot make pipes: {error.strerror}",
            errno=error.errno,
            hint="raise the limit of open files (ulimit -n)",
        ) from error
    _ours.update(ours.values(), theirs.values())
    return ours, theirs


def open_input(root: Path, item: Input, options: ContainerOptions, opened: list[int]) -> int:
    """Open what a plan's slot wants of the host, and note it for closing."""
    if item.kind == "source":
        fd = _open_source(root, item.name, recursive=item.recursive)
    elif item.kind == "secret":
        fd = _open_secret(item.name, (options.get("secrets") or {})[item.name])
    else:
        raise ConfigError(f"cannot give the container its {item.kind}: it has none")
    opened.append(fd)
    return fd


def _open_source(root: Path, path: str, *, recursive: bool) -> int:
    from containerkit import _native

    try:
        return _native.open_source(path, recursive=recursive, userns=userns.namespace(root))
    except HostError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise ConfigError(
                f"cannot mount {path}: it does not exist",
                hint="make it first; containerkit does not make sources of mounts",
            ) from error
        raise


@refusals("hand over a secret")
def _open_secret(name: str, value: bytes | str | Path) -> int:
    """A secret's content in memory: in no file, no plan and no environment."""
    if not isinstance(value, bytes | bytearray | memoryview | str | Path):
        raise ConfigError(f"the secret {name} is neither bytes, text nor a path")
    if isinstance(value, Path):
        try:
            content = value.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot read the secret {name} from {value}: {error.strerror}"
            ) from error
    else:
        content = value.encode() if isinstance(value, str) else value
    fd = os.memfd_create("secret", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
    except BaseException:
        os.close(fd)
        raise
    return fd


def files_among(mounts: Sequence[Mount]) -> frozenset[str]:
    """Return the sources of bind mounts that are not directories."""
    return frozenset(
        mount.source for mount in mounts if mount.kind == "bind" and not os.path.isdir(mount.source)
    )


def host_file(path: str) -> bytes | None:
    """Return a file of the host's; None where it has none."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return None
