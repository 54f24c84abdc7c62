"""The control groups an engine's containers live in: found, made, and cleaned up after a crash.

Owns: where the caller is in each hierarchy, the launcher's group beneath it, the device rules set
there once.  The launcher makes and removes the containers' groups inside; `launch.limits` says
what is written to them.

Spec: cgroups(7); kernel documentation, cgroup-v1/devices and cgroup-v2.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

CONTROLLERS: Final = ("pids", "memory", "cpu", "cpuacct", "freezer", "devices")
"""What every container gets a group of, where the host has it."""

PREFIX: Final = "containerkit-"

# Beyond the nodes of our /dev: terminals (136:*), /dev/console and ptmx.  No mknod anywhere.
_DEVICES: Final = (
    "c 1:3 rw",
    "c 1:5 rw",
    "c 1:7 rw",
    "c 1:8 rw",
    "c 1:9 rw",
    "c 5:0 rw",
    "c 5:1 rw",
    "c 5:2 rw",
    "c 136:* rw",
)


Version = Literal["v1", "v2", "hybrid"]


class Hierarchies(NamedTuple):
    """Where this process is in the host's control groups.

    Attributes:
        version: "v1", "v2", "hybrid" (v1 controllers beside a v2 tree without any) or None.
        directories: controller → this process's own directory; "unified" for version 2.
    """

    version: Version | None
    directories: Mapping[str, Path]


def find() -> Hierarchies:
    """Read where this process is, from /proc."""
    return parse(
        Path("/proc/self/cgroup").read_text(encoding="utf-8"),
        Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"),
    )


def parse(cgroup: str, mountinfo: str) -> Hierarchies:
    """Return the hierarchies of the texts of ``/proc/self/cgroup`` and ``mountinfo``.

    A hierarchy whose mount does not show our own group (a cgroup namespace of another process, a
    bind of a part) is left out.
    """
    mounts: dict[str, tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields, kind = head.split(" "), tail.split(" ")
        if kind[0] == "cgroup2":
            mounts.setdefault("", (_plain(fields[3]), _plain(fields[4])))
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                mounts.setdefault(option, (_plain(fields[3]), _plain(fields[4])))
    directories = {}
    unified = None
    for line in cgroup.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            place = mounts.get(name)
            if place is None or not _is_below(path, place[0]):
                continue
            directory = Path(place[1] + path.removeprefix(place[0].rstrip("/")))
            if name == "":
                unified = directory
            elif name in CONTROLLERS:
                directories[name] = directory
    if unified is not None and not directories and _has_controllers(unified):
        return Hierarchies("v2", {"unified": unified})
    if directories:
        return Hierarchies("v1" if unified is None else "hybrid", directories)
    return Hierarchies(None, {})


def _plain(field: str) -> str:
    """Undo mountinfo's escapes of blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def _has_controllers(unified: Path) -> bool:
    try:
        return bool((unified / "cgroup.controllers").read_text(encoding="ascii").split())
    except OSError:
        return False


class LauncherGroup(NamedTuple):
    """The groups of one launcher.

    Attributes:
        controllers: what a container's limits may use here.
        names: in the order of ``fds``: what the launcher calls each directory.
        fds: descriptors of the directories; the caller closes them.
        paths: the same, to remove them by.
        missing: why controllers are not there, one sentence each.
    """

    controllers: frozenset[str]
    names: tuple[str, ...]
    fds: tuple[int, ...]
    paths: tuple[Path, ...]
    missing: tuple[str, ...]


NO_GROUP: Final = LauncherGroup(frozenset(), (), (), (), ())


def planned_paths(hierarchies: Hierarchies, launcher_id: str) -> tuple[Path, ...]:
    """Return where `make_group` may make groups, for the record written before it does."""
    parents = list(hierarchies.directories.values())
    if hierarchies.version == "v2":
        parents += [parent.parent for parent in parents]
    return tuple(parent / (PREFIX + launcher_id) for parent in parents)


def make_group(hierarchies: Hierarchies, launcher_id: str) -> LauncherGroup:
    """Make the launcher's group beneath this process's own, in every hierarchy that allows it.

    Beneath, so that limits on this process hold for its containers.  Never raises for a host that
    refuses: containers start without, and what is missing is said.
    """
    if hierarchies.version == "v2":
        return _make_unified(hierarchies.directories["unified"], launcher_id)
    names, fds, paths, missing = [], [], [], []
    for controller, parent in hierarchies.directories.items():
        path = parent / (PREFIX + launcher_id)
        try:
            if path not in paths:  # controllers may share a hierarchy: "cpu,cpuacct"
                path.mkdir(0o755)
                paths.append(path)
            if controller == "devices":
                _restrict_devices(path)
            fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            missing.append(f"no {controller} group below {parent}: {error.strerror}")
            continue
        names.append(controller)
    return LauncherGroup(frozenset(names), tuple(names), tuple(fds), tuple(paths), tuple(missing))


def _restrict_devices(path: Path) -> None:
    """Set the list that every container's group starts with (cgroup-v1/devices)."""
    (path / "devices.deny").write_text("a")
    for rule in _DEVICES:
        (path / "devices.allow").write_text(rule)


def _make_unified(parent: Path, launcher_id: str) -> LauncherGroup:
    """Version 2: controllers reach below a group only while it holds no process, except the root.

    In the root group, and where the parent group has room (delegation), ours is made; its children
    are the containers'.
    """
    missing = []
    for place in (parent, *_delegated(parent)):
        path = place / (PREFIX + launcher_id)
        try:
            wanted = set((place / "cgroup.controllers").read_text(encoding="ascii").split())
            wanted &= set(CONTROLLERS)
            _enable(place, wanted)
            path.mkdir(0o755)
        except OSError as error:
            missing.append(f"no group below {place}: {error.strerror}")
            continue
        try:
            _enable(path, wanted)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            path.rmdir()
            missing.append(f"no controllers below {path}: {error.strerror}")
            continue
        return LauncherGroup(frozenset(wanted), ("unified",), (fd,), (path,), ())
    return LauncherGroup(frozenset(), (), (), (), tuple(missing))


def _delegated(group: Path) -> Iterable[Path]:
    """Yield the group above, when this user may make groups in it and it holds no process."""
    above = group.parent
    with contextlib.suppress(OSError):
        if os.access(above, os.W_OK) and not (above / "cgroup.procs").read_text().strip():
            yield above


def _enable(group: Path, controllers: set[str]) -> None:
    control = group / "cgroup.subtree_control"
    for name in controllers - set(control.read_text(encoding="ascii").split()):
        control.write_text(f"+{name}")


def remove_tree(top: Path) -> None:
    """Remove a dead launcher's group; its processes died with it (its pid namespace)."""
    for directory, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
