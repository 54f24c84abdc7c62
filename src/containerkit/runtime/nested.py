"""Containers where no namespaces are to be had: the copies that are their roots, and saying so.

Owns: the copy of an image's files in a container's directory, what is put into it, the way to it for
whoever uses its files, and the warning.  Must not decide what a container gets (`launch.bare` does).

A copy is made once, before the first start or look, under the lock of whoever makes it; it is the
container's until that is removed.  What a `run` has is marked as hanging on its launcher, so that a
crash leaves nothing that recovery does not know.

Neighbours: `runner` and `begin` have it made; `contents` and `execute` open it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import MissingFeature, refusals
from containerkit.launch.bare import HINT, TREE, is_in_place
from containerkit.model.host import DegradedWarning
from containerkit.model.idmap import IdMap
from containerkit.runtime.inputs import host_file
from containerkit.state import userns
from containerkit.state.atomic import remove_tree

if TYPE_CHECKING:
    from containerkit.model.options import ContainerOptions
    from containerkit.model.rootfs import Rootfs
    from containerkit.runtime.handle import Handle

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES: Final = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_PACKAGE: Final = str(Path(__file__).resolve().parents[1])


def warn() -> None:
    """Say what is not isolated here, to whoever called this library."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(
        "containers are not isolated here: no namespaces are to be had, so processes, users, host"
        " name, network stack and shared memory are those around them, and limits of memory,"
        " processors and processes are not there; Plan.explain() says the rest, and"
        " Engine.probe()['nested'] what changes it",
        DegradedWarning,
        stacklevel=level,
    )


@refusals("find out whether devices can be made in the store")
def has_devices(root: Path) -> bool:
    """Return whether a device can be made in a root directory, and works there."""
    path = root / f".device-{secrets.token_hex(8)}"
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    return True


def wants_tree(rootfs: Rootfs) -> bool:
    """Return whether a container of these files needs a copy of them here."""
    return userns.is_bare() and not is_in_place(rootfs)


@refusals("copy the files of an image")
def make_tree(root: Path, directory: Path, rootfs: Rootfs, options: ContainerOptions) -> None:
    """Make the copy that is a container's root, if it is not there; nobody else does meanwhile.

    Args:
        root: of the engine.
        directory: the container's own.
        rootfs: its files.
        options: as the caller gave them.
    """
    from containerkit.snapshots.copy import merge

    tree = directory / TREE
    if tree.exists():
        return
    part = directory / f"{TREE}.part"
    remove_tree(part)
    part.mkdir(mode=0o755)
    lowers: tuple[str, ...] = getattr(rootfs.mounts[0], "lowers", ())
    merge([root / lower for lower in lowers], part, owners=not userns.has_one_id())
    top = os.open(part, _DIRECTORY)
    try:
        _furnish(top, devices=has_devices(root), network=options.get("network") == "host")
        workdir = options.get("workdir")
        if workdir is not None:
            _make_directory(top, os.fspath(workdir))
    finally:
        os.close(top)
    os.rename(part, tree)


def _furnish(top: int, *, devices: bool, network: bool) -> None:
    """Put in what others have mounted: following no link, since the image chose them."""
    files = ("hosts", "hostname", "resolv.conf") if network else ("hosts", "hostname")
    with _within(top, "etc") as etc:
        for name in files:
            content = host_file(f"/etc/{name}")
            if etc >= 0 and content is not None and _clear(etc, name):
                fd = os.open(name, _NEW, 0o644, dir_fd=etc)
                with open(fd, "wb") as file:
                    file.write(content)
    with _within(top, "dev") as dev:
        if dev < 0:
            return
        for name, major, minor in _NODES if devices else ():
            if _clear(dev, name):
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=dev)
                os.chmod(name, 0o666, dir_fd=dev)
        if _clear(dev, "shm"):
            os.mkdir("shm", dir_fd=dev)
            os.chmod("shm", 0o1777, dir_fd=dev)


@contextmanager
def _within(top: int, name: str) -> Iterator[int]:
    """Give a directory, made if it is missing; -1: something else is there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=top)
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=top)
    except OSError:
        yield -1
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _clear(directory: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError:  # a directory of the image's
        return False
    return True


def _make_directory(top: int, path: str) -> None:
    from containerkit.runtime.beneath import RootSide, make_parents

    os.close(make_parents(RootSide(top), path))


# ---- a `run`'s, which is gone with it


@contextmanager
def _released(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)


def make_for_run(
    root: Path, identity: str, owner: str, rootfs: Rootfs, options: ContainerOptions
) -> None:
    """Make the directory of a container that is run, with its copy; `drop` is its end.

    Args:
        root: of the engine.
        identity: of the container.
        owner: id of the launcher.
        rootfs: its files.
        options: as the caller gave them.
    """
    from containerkit.runtime import marks
    from containerkit.runtime.birth import make_directory

    directory = root / "containers" / identity
    try:
        with _released(make_directory(directory)):
            marks.write(directory, marks.owner_mark(owner))
            make_tree(root, directory, rootfs, options)
    except BaseException:
        drop(root, identity)
        raise


def drop(root: Path, identity: str) -> None:
    """Remove what `make_for_run` made."""
    from containerkit.runtime import marks

    directory = root / "containers" / identity
    marks.drop(directory)
    remove_tree(directory)


# ---- its files


@refusals("open the files of the container")
def open_tree(directory: Path, rootfs: Rootfs) -> int:
    """Return an O_PATH descriptor of a container's root."""
    path = Path("/") if is_in_place(rootfs) else directory / TREE
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


@contextmanager
def reach(container: Handle) -> Iterator[int]:
    """Give a descriptor of a container's root, whether it runs or not.

    Raises:
        InvalidStatus: it was removed.
    """
    from containerkit.runtime import begin
    from containerkit.runtime import status as words
    from containerkit.runtime.birth import Kept

    keeper = container._keeper
    status = container._require("reach the files of", *words.STATUSES[:-1]).status
    kept = Kept.of(container._read_row())
    if not is_in_place(kept.rootfs) and status in ("created", "stopped"):
        with begin.Operation(keeper, container.id), begin.leased(keeper, kept):
            make_tree(keeper.root, container._directory, kept.rootfs, kept.options)
    fd = open_tree(container._directory, kept.rootfs)
    try:
        yield fd
    finally:
        os.close(fd)


def open_tree_of(container: Handle) -> int:
    """Return an O_PATH descriptor of a container's root, for what is executed in it."""
    from containerkit.runtime.birth import Kept

    return open_tree(container._directory, Kept.of(container._read_row()).rootfs)


def own_ids() -> IdMap | None:
    """Return the one id that files can be given here, where that is all; None: any, or not bare."""
    if not userns.has_one_id():
        return None
    uid, gid = os.geteuid(), os.getegid()
    return IdMap(((uid, uid, 1),), ((gid, gid, 1),))


def refuse(attempt: str, cause: str) -> None:
    """Refuse what only namespaces tell.

    Raises:
        MissingFeature: there are none to be had.
    """
    if userns.is_bare():
        raise MissingFeature(f"cannot {attempt}: {cause}", hint=HINT, feature="nested")
