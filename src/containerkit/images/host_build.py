"""Build the part of a host image that is not the host's: its skeleton, published once.

    ROOT/host/refs/STAMP   what `images.host` reads on every start: the trees' key and the mounts
    ROOT/host/KEY/skeleton the image's own "/": /etc, /tmp, links, empty directories to mount on
    ROOT/host/KEY/masks/N  what is shown instead of the N-th directory that is to look empty

KEY begins with the boot it was made in, because trees are not synced to disk: those of an earlier
boot may be damaged and are in use by nobody, so the next build removes them.  The rest of KEY is a
digest of the content, so that a host that changes in ways that do not matter gets no new tree.

Owns: those files.  Must not: mount, or decide what the image has (`host_layout`, `host_etc` do).
Flow: `images.host` calls `build` when it finds no ref for the host as it is now.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from containerkit.errors import refusals
from containerkit.images import host_etc, host_ref
from containerkit.images.host_layout import Layout, LayoutBuilder, Mounts, within
from containerkit.images.host_python import PythonFacts
from containerkit.images.host_ref import HostRef
from containerkit.model.platform import Platform
from containerkit.model.rootfs import HostBind, Overlay
from containerkit.state.atomic import publish_file, remove_tree
from containerkit.state.lock import FileLock

DIRECTORIES = {
    "/tmp": 0o1777,
    "/var/tmp": 0o1777,
    "/root": 0o700,
    "/home": 0o755,
    "/opt": 0o755,
    "/srv": 0o755,
    "/mnt": 0o755,
    "/run": 0o755,
    "/proc": 0o555,
    "/sys": 0o555,
    "/dev": 0o755,
    "/var/cache": 0o755,
    "/var/lib": 0o755,
    "/var/log": 0o755,
}
"""Empty directories of every host image."""

SEARCH_PATH = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
)
"""PATH of the image, after the directories of its Python."""

_BOOT_DIGITS = 8


class Skeleton:
    """A tree being written aside, and the digest of what is in it."""

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        self._hash = hashlib.sha256()
        os.mkdir(self._path, 0o755)
        os.chmod(self._path, 0o755)

    def digest(self) -> bytes:
        """Return a digest of the names, modes and content so far, in the order they were made."""
        return self._hash.digest()

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and those above it; what is there stays as it is."""
        if path == "/" or os.path.lexists(self._at(path)):
            return
        self.directory(os.path.dirname(path))
        os.mkdir(self._at(path))
        os.chmod(self._at(path), mode)  # after mkdir: the umask is the whole process's
        self._note("directory", path, str(mode))

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Make a file; what is there stays as it is."""
        self.directory(os.path.dirname(path))
        try:
            fd = os.open(self._at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        with open(fd, "wb") as file:
            file.write(data)
            os.fchmod(fd, mode)
        self._note("file", path, str(mode))
        self._hash.update(hashlib.sha256(data).digest())

    def link(self, path: str, text: str) -> None:
        """Make a symbolic link; what is there stays as it is."""
        self.directory(os.path.dirname(path))
        try:
            os.symlink(text, self._at(path))
        except FileExistsError:
            return
        self._note("link", path, text)

    def _at(self, path: str) -> str:
        return self._path + path

    def _note(self, *fields: str) -> None:
        self._hash.update(b"\0".join(os.fsencode(field) for field in fields) + b"\0\n")


@refusals("make the host image")
def build(
    root: Path,
    stamp: str,
    boot: str,
    python: PythonFacts,
    *,
    paths: Sequence[str],
    site_packages: bool,
) -> None:
    """Make and publish the trees and the ref of one host image, unless they are there.

    Args:
        root: of the engine.
        stamp: name of the ref.
        boot: of the host.
        python: the Python to give.
        paths: further directories and files to give.
        site_packages: False shows those of ``python`` empty.

    Raises:
        ConfigError: one of ``paths`` can not be given.

    Blocking: on another process that builds one in the same root, for some ten milliseconds.
    Atomicity: trees and ref are renamed into place whole, the ref last.
    """
    builder = LayoutBuilder(os.path.realpath(root), Mounts.of_host())
    builder.add_system()
    builder.add_python(python, site_packages=site_packages)
    for path in paths:
        builder.add_path(path)
    layout = builder.layout(() if site_packages else tuple(python.site_packages()))
    refs = root / "host" / "refs"
    refs.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(root / "host" / ".lock"):
        there = host_ref.read(root, stamp)
        if there is not None and (root / "host" / there.key).exists():
            return
        _sweep(root / "host", boot)
        aside = root / "host" / f".aside-{stamp}"
        content = _write_trees(aside, layout)
        key = boot.replace("-", "")[:_BOOT_DIGITS] + content[:24]
        if (root / "host" / key).exists():
            remove_tree(aside)
        else:
            aside.rename(root / "host" / key)
        ref = HostRef(
            boot,
            key,
            content,
            _architecture(),
            _search_path(python),
            layout.notes,
            _mounts(layout, key),
        )
        publish_file(refs, stamp, host_ref.encode(ref), durable=False)


def _write_trees(aside: Path, layout: Layout) -> str:
    """Write the skeleton and the masks; return a digest of them and of the layout, hex."""
    (aside / "masks").mkdir(mode=0o755, parents=True)
    for directory in (aside, aside / "masks"):
        directory.chmod(0o755)
    skeleton = Skeleton(aside / "skeleton")
    placed = [source.path for source in layout.sources] + [at for at, _ in layout.links]
    for path, mode in DIRECTORIES.items():
        # A closed /root would hide a Python that lives below it from the container's users.
        closed = mode & 0o077 == 0 and any(within(place, path) for place in placed)
        skeleton.directory(path, 0o755 if closed else mode)
    for source in layout.sources:
        if not any(within(source.path, o.path) for o in layout.sources if o != source):
            _mount_point(skeleton, source.path, source.path)
    for at, text in layout.links:
        skeleton.link(at, text)
    skeleton.link("/var/run", "/run")
    host_etc.fill(skeleton)
    digests = [skeleton.digest()]
    for number, mask in enumerate(layout.empty):
        tree = Skeleton(aside / "masks" / str(number))
        for source in layout.sources:
            if within(source.path, mask):
                _mount_point(tree, source.path.removeprefix(mask), source.path)
        digests.append(tree.digest())
    return hashlib.sha256(ascii((layout, digests)).encode()).hexdigest()


def _mount_point(tree: Skeleton, at: str, source: str) -> None:
    if os.path.isdir(source):
        tree.directory(at)
    else:
        tree.file(at, b"")


def _mounts(layout: Layout, key: str) -> tuple[Overlay | HostBind, ...]:
    mounts: list[Overlay | HostBind] = []
    for source in layout.sources:
        if source.overlay:
            mounts.append(Overlay(source.path, (source.path,)))
        else:
            mounts.append(HostBind(source.path, source.path))
    for number, mask in enumerate(layout.empty):
        mounts.append(Overlay(mask, (f"host/{key}/masks/{number}",)))
    mounts.sort(key=lambda mount: (mount.target.count("/"), mount.target))
    return (Overlay("/", (f"host/{key}/skeleton",)), *mounts)


def _search_path(python: PythonFacts) -> str:
    return ":".join(dict.fromkeys((*python.programs, *SEARCH_PATH)))


def _architecture() -> str:
    return Platform.host().architecture


def _sweep(host: Path, boot: str) -> None:
    """Remove what an earlier boot or a killed builder left; the lock is held."""
    current = boot.replace("-", "")[:_BOOT_DIGITS]
    for name in os.listdir(host):
        if name.startswith(".aside-") or (_is_key(name) and not name.startswith(current)):
            remove_tree(host / name)
    for name in os.listdir(host / "refs"):
        ref = host_ref.read(host.parent, name)
        if ref is None or ref.boot != boot:
            (host / "refs" / name).unlink(missing_ok=True)


def _is_key(name: str) -> bool:
    return len(name) == _BOOT_DIGITS + 24 and set(name) <= set("0123456789abcdef")
