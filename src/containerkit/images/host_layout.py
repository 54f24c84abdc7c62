"""What of the host a host image gives, and where: source directories, links, masks.

Owns: finding the directories that hold the system and the running Python, following every link on
the way, seeing where the host's mounts cut them.  Must not: write anything, or read file contents.
Flow: `images.host_build` turns a `Layout` into a skeleton tree and mount values.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from containerkit.errors import ConfigError
from containerkit.images.host_python import PythonFacts

SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32", "libn32")
"""The directories of programs and libraries (hier(7)); links of merged-/usr hosts stay links."""

UNREACHABLE = ("/proc", "/sys", "/dev")
"""The engine mounts these itself; nothing of the host's may come in through them."""

OWN = ("/", "/etc", "/run", "/tmp", "/var", "/var/tmp", "/root", "/home")
"""Directories the image has of its own; asking for one of them whole is refused."""

# File systems that compare names in their own way, or mount things on access: as a lower layer
# overlayfs refuses them (fs/overlayfs/util.c, ovl_dentry_weird).
REFUSED_LOWERS = frozenset(
    {"affs", "autofs", "cifs", "exfat", "hfs", "hfsplus", "msdos", "ntfs", "ntfs3", "smb3", "vfat"}
)

_LINKS_MAX = 40  # as the kernel, path_resolution(7)


class Source(NamedTuple):
    """A directory or file of the host that the image has at the same path."""

    path: str
    overlay: bool
    """False: bound read-only."""


class Layout(NamedTuple):
    """A host image in terms of the host, parents before what lies below them."""

    sources: tuple[Source, ...]
    links: tuple[tuple[str, str], ...]
    """Links outside of all sources, with their text as on the host."""
    empty: tuple[str, ...]
    """Directories inside of sources that the image shows empty."""
    notes: tuple[str, ...]


class Mounts:
    """The host's mounts, to tell where one directory tree ends and another begins.

    Args:
        mountinfo: the text of /proc/self/mountinfo; Spec: proc_pid_mountinfo(5).
    """

    def __init__(self, mountinfo: str) -> None:
        self._types: dict[str, str] = {"/": "unknown"}
        for line in mountinfo.split("\n"):
            head, separator, tail = line.partition(" - ")
            fields = head.split(" ")
            if separator and len(fields) > 4:
                point = re.sub(r"\\([01][0-7]{2})", lambda found: chr(int(found[1], 8)), fields[4])
                self._types[point] = tail.split(" ", 1)[0]

    @classmethod
    def of_host(cls) -> Mounts:
        """Read the mounts of the calling process."""
        try:
            return cls(Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "surrogateescape"))
        except OSError:
            return cls("")

    def point(self, path: str) -> str:
        """Return the mount point that ``path`` (absolute, without links) is on."""
        while path not in self._types:
            path = os.path.dirname(path)
        return path

    def below(self, path: str) -> list[str]:
        """Return the mount points strictly below ``path``, those behind another one left out."""
        points = sorted(p for p in self._types if p != path and within(p, path))
        return [p for p in points if not any(o != p and within(p, o) for o in points)]

    def type(self, path: str) -> str:
        """Return the type of the file system that ``path`` is on."""
        return self._types[self.point(path)]


def within(path: str, directory: str) -> bool:
    """Return whether ``path`` is ``directory`` or below it; both absolute and normal."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


class LayoutBuilder:
    """Collects what the image is to have, then says how.

    Args:
        root: of the engine, absolute and without links; nothing of it may be seen in the image.
        mounts: of the host.
    """

    def __init__(self, root: str, mounts: Mounts) -> None:
        self._root = root
        self._mounts = mounts
        self._reached: dict[str, bool] = {}  # path without links, whether it is a directory
        self._asked: list[str] = []  # of them, what the caller named: not to be shown empty
        self._links: dict[str, str] = {}
        self._notes: list[str] = []

    def add_system(self) -> None:
        """Give the directories of programs and libraries."""
        for name in SYSTEM:
            if os.path.lexists(f"/{name}"):
                self._reach(f"/{name}")

    def add_python(self, python: PythonFacts, *, site_packages: bool) -> None:
        """Give a Python: its prefixes, standard library and interpreter."""
        homes = home_directories()
        for prefix in python.prefixes:
            real = os.path.realpath(prefix)
            if any(within(home, real) for home in homes) or real in OWN:
                self._note(
                    f"{prefix}: more than a Python lives there; only the Python's parts are given"
                )
                self._add_narrow(prefix, python)
            else:
                self._reach(prefix)
        for store in ("/nix/store", "/gnu/store"):
            # There each library has a directory of its own; all of them are public by design.
            if within(os.path.realpath(python.base_prefix), store):
                self._reach(store)
        self._reach(python.stdlib)
        for executable in python.executables:
            self._reach(executable)
        if site_packages:
            for directory in python.site_packages():
                if os.path.isdir(directory):
                    self._reach(directory)

    def _add_narrow(self, prefix: str, python: PythonFacts) -> None:
        version = os.path.basename(python.stdlib)
        for part in ("bin", f"lib/{version}", f"lib64/{version}", "pyvenv.cfg"):
            if os.path.lexists(os.path.join(prefix, part)):
                self._reach(os.path.join(prefix, part))

    def add_path(self, path: str) -> None:
        """Give a directory or file that the caller asked for.

        Raises:
            ConfigError: it is missing, or a part of the host that an image can not give.
        """
        if not os.path.isabs(path):
            path = os.path.abspath(path)
        real = os.path.realpath(path)
        if not os.path.exists(real):
            raise ConfigError(f"cannot give {path} to the host image: it does not exist")
        if real in OWN or any(within(real, part) for part in UNREACHABLE):
            raise ConfigError(
                f"cannot give {path} to the host image: the image has a {real} of its own",
                hint="name the directories or files below it that are needed",
            )
        if within(real, self._root):
            raise ConfigError(f"cannot give {path} to the host image: it is the engine's own root")
        self._reach(path)
        self._asked.append(real)

    def _reach(self, path: str) -> None:
        """Make ``path`` resolve in the image as it does on the host: its links, and where it ends."""
        pending = deque(path.split("/"))
        current, hops = "/", 0
        while pending:
            name = pending.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                current = os.path.dirname(current)
                continue
            at = os.path.join(current, name)
            try:
                mode = os.lstat(at).st_mode
                text = os.readlink(at) if stat.S_ISLNK(mode) else None
            except OSError as error:
                self._note(f"{path}: not given, {at}: {error.strerror}")
                return
            if text is None:
                current = at
                continue
            hops += 1
            if hops > _LINKS_MAX:
                self._note(f"{path}: not given, too many links")
                return
            self._links[at] = text
            if text.startswith("/"):
                current = "/"
            pending.extendleft(reversed(text.split("/")))
        if any(within(current, part) for part in UNREACHABLE) or current in OWN:
            self._note(f"{path}: not given, it resolves to {current}")
            return
        self._reached[current] = os.path.isdir(current)

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def layout(self, empty: Sequence[str] = ()) -> Layout:
        """Say how: each tree once, cut where the host's mounts cut it.

        Args:
            empty: directories to show empty, where a source has them.
        """
        sources: list[Source] = []
        for path in sorted(self._reached, key=_by_depth):
            if not self._held(path, sources):
                sources.append(self._source(path))
        self._note_mounts(sources)
        links = [
            (at, text)
            for at, text in sorted(self._links.items())
            if not self._held(os.path.dirname(at), sources)
        ]
        masks = self._masks(empty, sources)
        sources = [
            source
            for source in sources
            if source.path in self._asked or not any(within(source.path, m) for m in masks)
        ]
        for path in self._asked:
            if any(within(path, mask) for mask in masks):
                sources.append(self._source(path))
        return Layout(
            tuple(sorted(dict.fromkeys(sources), key=lambda source: _by_depth(source.path))),
            tuple(links),
            masks,
            tuple(self._notes),
        )

    def _masks(self, empty: Sequence[str], sources: Sequence[Source]) -> tuple[str, ...]:
        """Return what is to look empty, of what the sources show; none below another."""
        masks = {
            real
            for real in map(os.path.realpath, empty)
            if os.path.isdir(real) and self._held(real, sources)
        }
        if any(within(self._root, source.path) for source in sources):
            masks.add(self._root)
        outermost = {m for m in masks if not any(m != o and within(m, o) for o in masks)}
        return tuple(sorted(outermost.difference(self._asked), key=_by_depth))

    def _note_mounts(self, sources: Sequence[Source]) -> None:
        for source in sources:
            for point in self._mounts.below(source.path):
                if not any(within(other.path, point) for other in sources):
                    self._note(f"{point}: not given, it is a mount of its own; name it in paths")

    def _held(self, path: str, sources: Sequence[Source]) -> bool:
        """Whether a source shows ``path``: one above it, with no mount in between.

        An overlay's lower layer, as a bind that is not recursive, ends where another mount begins.
        """
        return any(
            within(path, source.path) and within(source.path, self._mounts.point(path))
            for source in sources
        )

    def _source(self, path: str) -> Source:
        refused = None
        kind = self._mounts.type(path)
        if not self._reached[path]:
            refused = "a single file"
        elif kind in REFUSED_LOWERS:
            refused = f"overlayfs takes no {kind}"
        elif within(path, self._root):
            refused = "it lies in the engine's root"
        elif within(self._root, path):
            refused = "the engine's root lies in it"
        if refused is not None:
            self._note(f"{path}: read-only, {refused}")
        return Source(path, refused is None)


def home_directories() -> frozenset[str]:
    """Return the real paths of the homes of people and root: where keys and histories lie."""
    homes = {"/root", os.path.expanduser("~")}
    try:
        accounts = Path("/etc/passwd").read_text(encoding="utf-8", errors="replace")
    except OSError:
        accounts = ""
    for line in accounts.splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdigit() and int(fields[2]) >= 1000:
            homes.add(fields[5])
    return frozenset(
        os.path.realpath(home) for home in homes if home.count("/") >= 1 and home != "/"
    ) - {"/nonexistent", "/bin", "/usr/sbin"}


def _by_depth(path: str) -> tuple[int, str]:
    return path.count("/"), path
