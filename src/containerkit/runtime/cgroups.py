"""The control groups an engine's containers live in: found, made, and cleaned up after a crash.

Owns: where the caller is in each hierarchy, the launcher's group beneath it, the device rules set
there once.  The launcher makes and removes the containers' groups inside; `launch.limits` says
what is written to them.  Must not: move a process of the caller's, or touch a group that is not
ours beyond handing controllers down.

Spec: cgroups(7); kernel documentation, cgroup-v1 (devices, cpusets) and cgroup-v2.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

from containerkit.errors import HostError, refusals
from containerkit.launch.devices import DEFAULT_RULES, MORE, device_program
from containerkit.launch.limits import OPTIONAL_FILES
from containerkit.launch.reuse import UNCOMMON

CONTROLLERS: Final = ("pids", "memory", "cpu", "cpuacct", "freezer", "devices")
"""What every container gets a group of, where the host has it in version 1."""

UNIFIED: Final = ("pids", "memory", "cpu", "cpuset", "io")
"""What is handed down to containers in version 2, where a group of each costs next to nothing."""

SHOWN: Final = "=cpuset"
"""What the launcher calls this process's own group of cpuset, of which a file is shown to containers
that have no group of it: Java takes no limit for one without it (version 1)."""

PREFIX: Final = "containerkit-"

Version = Literal["v1", "v2", "hybrid"]


class Hierarchies(NamedTuple):
    """Where this process is in the host's control groups.

    Attributes:
        version: "v1", "v2", "hybrid" (v1 controllers beside a v2 tree without any) or None.
        directories: controller → this process's own directory; "unified" for version 2.
        tops: the same controllers → the topmost directory that is mounted.
    """

    version: Version | None
    directories: Mapping[str, Path]
    tops: Mapping[str, Path]


NONE: Final = Hierarchies(None, {}, {})


@refusals("find the control groups")
def find() -> Hierarchies:
    """Read where this process is, from /proc."""
    return parse(
        Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape"),
        Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"),
    )


@lru_cache(maxsize=8)
def parse(cgroup: str, mountinfo: str) -> Hierarchies:
    """Return the hierarchies of the texts of ``/proc/self/cgroup`` and ``mountinfo``.

    A hierarchy whose mount does not show our own group (a cgroup namespace of another process, a
    bind of a part) is left out.
    """
    mounts = _mounts(mountinfo)
    directories, tops = {}, {}
    for names, path in memberships(cgroup):
        for name in names:
            place = mounts.get(name)
            if place is None or not _is_below(path, place[0]):
                continue
            tops[name] = Path(place[1])
            directories[name] = Path(place[1] + path.removeprefix(place[0].rstrip("/")))
    known = [name for name in directories if name in CONTROLLERS + UNCOMMON]
    if known:
        version: Version = "hybrid" if "" in directories else "v1"
        return Hierarchies(
            version,
            {name: directories[name] for name in known},
            {name: tops[name] for name in known},
        )
    if "" in directories:
        found = Hierarchies("v2", {"unified": directories[""]}, {"unified": tops[""]})
        # A leaf need not have any: ours is made beside it, where the group above has them.
        if any(map(_has_controllers, places(found, "unified", detached=True))):
            return found
    return NONE


def memberships(cgroup: str) -> Iterator[tuple[list[str], str]]:
    """Yield (names of controllers, group) of each line of a ``/proc/PID/cgroup``.

    Only a newline ends a line: a group may have any other character in its name.
    """
    for line in cgroup.split("\n"):
        _number, _, rest = line.partition(":")
        names, colon, path = rest.partition(":")
        if colon:
            yield names.split(","), path


def _mounts(mountinfo: str) -> dict[str, tuple[str, str]]:
    """Return controller → (its group that is mounted, where); "" for version 2."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in mountinfo.split("\n"):
        head, _, tail = line.partition(" - ")
        fields, kind = head.split(" "), tail.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            mounts.setdefault("", (_plain(fields[3]), _plain(fields[4])))
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                mounts.setdefault(option, (_plain(fields[3]), _plain(fields[4])))
    return mounts


def _plain(field: str) -> str:
    """Undo mountinfo's escapes of blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def _has_controllers(unified: Path) -> bool:
    try:
        return bool((unified / "cgroup.controllers").read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return False


class LauncherGroup(NamedTuple):
    """The groups of one launcher.

    Attributes:
        controllers: what a container's limits may use here.
        names: in the order of ``fds``: what the launcher calls each directory.
        fds: descriptors of the directories; the caller closes them.
        paths: the same, to remove them by.
        missing: why controllers are not there, one sentence each.
        files: those of `OPTIONAL_FILES` that this kernel has.
    """

    controllers: frozenset[str]
    names: tuple[str, ...]
    fds: tuple[int, ...]
    paths: tuple[Path, ...]
    missing: tuple[str, ...]
    files: frozenset[str]


NO_GROUP: Final = LauncherGroup(frozenset(), (), (), (), (), frozenset())


def planned_paths(
    hierarchies: Hierarchies, launcher_id: str, *, detached: bool = False
) -> tuple[Path, ...]:
    """Return where `make_group` may make groups, for the record written before it does."""
    found: dict[Path, None] = {}  # in order, each once
    for controller in (*hierarchies.directories, *((MORE,) if _has_more(hierarchies) else ())):
        name = _group_name(controller, launcher_id)
        found |= dict.fromkeys(
            place / name for place in places(hierarchies, controller, detached=detached)
        )
    return tuple(found)


def _group_name(controller: str, launcher_id: str) -> str:
    """Return what a launcher's group is called: beside the one of devices there is another."""
    return f"{PREFIX}{launcher_id}{'+' if controller == MORE else ''}"


def is_group_of(path: Path, launcher_id: str) -> bool:
    """Whether a path has the name of a group of a launcher's."""
    return path.name in {_group_name(name, launcher_id) for name in ("devices", MORE)}


def _has_more(hierarchies: Hierarchies) -> bool:
    """Whether a process can be in another group of devices than of all else."""
    devices = hierarchies.directories.get("devices")
    return devices is not None and list(hierarchies.directories.values()).count(devices) == 1


def make_group(
    hierarchies: Hierarchies,
    launcher_id: str,
    *,
    detached: bool = False,
    uncommon: Collection[str] = UNCOMMON,
) -> LauncherGroup:
    """Make a launcher's group in every hierarchy that allows it.

    Beneath this process's own, so that limits on this process hold for its containers; in version
    2, where a group with processes can hand nothing down, beside it.  Never raises for a host that
    refuses: containers start without, and what is missing is said.

    Args:
        hierarchies: as `find` has them.
        launcher_id: names the groups.
        detached: beneath the topmost group that can be reached: it outlives this process's own.
        uncommon: those of `UNCOMMON` that its containers may have.  A group of cpuset costs more,
            the more of them there are.
    """
    if hierarchies.version == "v2":
        return _make_unified(hierarchies, launcher_id, detached=detached)
    names, fds, paths, missing = [], [], [], []
    files: set[str] = set()
    # The launcher relies on the order.
    for controller in (*CONTROLLERS, *(name for name in UNCOMMON if name in uncommon)):
        if controller not in hierarchies.directories and not (
            controller == MORE and _has_more(hierarchies) and "devices" in names
        ):
            continue
        for place in places(hierarchies, controller, detached=detached):
            path = place / _group_name(controller, launcher_id)
            shared = path in paths  # controllers may share a hierarchy: "cpu,cpuacct"
            try:
                if not shared:
                    path.mkdir(0o755)
                _prepare(controller, path)
                fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            except OSError as error:
                missing.append(f"no {controller} group below {place}: {error.strerror}")
                if not shared:
                    remove_tree(path)
                continue
            if not shared:
                paths.append(path)
            names.append(controller)
            files |= _files(controller, path)
            break
    controllers = frozenset(names)
    with contextlib.suppress(KeyError, OSError):
        own = hierarchies.directories["cpuset"]
        fds.append(os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        names.append(SHOWN)
    return LauncherGroup(
        controllers, tuple(names), tuple(fds), tuple(paths), tuple(missing), frozenset(files)
    )


def places(hierarchies: Hierarchies, controller: str, *, detached: bool) -> tuple[Path, ...]:
    """Return the groups to make ours in, best first."""
    key = "devices" if controller == MORE else controller
    own, top = hierarchies.directories[key], hierarchies.tops[key]
    near = (own,) if hierarchies.version != "v2" or own == top else (own, own.parent)
    return (top, *(place for place in near if place != top)) if detached else near


def _prepare(controller: str, path: Path) -> None:
    """Set what every container's group starts with."""
    if controller == "devices":  # cgroup-v1/devices
        (path / "devices.deny").write_text("a")
        fd = os.open(path / "devices.allow", os.O_WRONLY | os.O_CLOEXEC)
        try:
            for rule in DEFAULT_RULES:
                with contextlib.suppress(PermissionError):  # it is refused to this process, too
                    os.write(fd, str(rule).encode("ascii"))
        finally:
            os.close(fd)
    elif controller == "cpuset":
        # A new one has neither processors nor memory, and takes no process before it has both.
        for file in ("cpuset.cpus", "cpuset.mems"):
            (path / file).write_text((path.parent / file).read_text())
        (path / "cgroup.clone_children").write_text("1")  # those below begin with what this has


def _files(controller: str, path: Path) -> set[str]:
    """Return the files of a controller that not every kernel has."""
    prefix = f"{controller}."
    return {
        name for name in OPTIONAL_FILES if name.startswith(prefix) and os.path.exists(path / name)
    }


def _make_unified(hierarchies: Hierarchies, launcher_id: str, *, detached: bool) -> LauncherGroup:
    """Version 2: controllers reach below a group only while it holds no process, except the root.

    In the root group, and where the parent group has room (delegation), ours is made; its children
    are the containers'.
    """
    missing = []
    for place in places(hierarchies, "unified", detached=detached):
        path = place / (PREFIX + launcher_id)
        refused = refusal(place)
        if refused:
            missing.append(refused)
            continue
        try:
            missing += _hand_down(place)
            path.mkdir(0o755)
        except OSError as error:
            missing.append(f"no group below {place}: {error.strerror}")
            continue
        try:
            missing += _hand_down(path)
            given = frozenset((path / "cgroup.subtree_control").read_text(encoding="ascii").split())
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            given |= _limit_devices(fd, missing)
        except OSError as error:
            path.rmdir()
            missing.append(f"no controllers below {path}: {error.strerror}")
            continue
        files = frozenset(name for controller in given for name in _files(controller, path))
        return LauncherGroup(given, ("unified",), (fd,), (path,), tuple(missing), files)
    return LauncherGroup(frozenset(), (), (), (), tuple(missing), frozenset())


def _limit_devices(group: int, missing: list[str]) -> frozenset[str]:
    """Give a group the default rules; return {"devices"} if they hold."""
    from containerkit import _native

    try:
        _native.limit_devices(group, device_program(DEFAULT_RULES))
    except HostError as error:
        missing.append(str(error))
        return frozenset()
    return frozenset({"devices"})


def refusal(place: Path) -> str:
    """Say why a group can not hand controllers down, "" if it can: see cgroup-v2, no internal
    processes.

    Trying is no way to find out: some controllers can be handed down by a group with processes, and
    its children then take none.
    """
    try:
        if (place / "cgroup.type").exists() and (place / "cgroup.procs").read_text(
            encoding="ascii"
        ).strip():
            return f"no controllers below {place}: there are processes in it"
    except OSError as error:
        return f"no group below {place}: {error.strerror}"
    return ""


def _hand_down(group: Path) -> list[str]:
    """Hand each controller down to the groups below; say which could not be."""
    there = (group / "cgroup.controllers").read_text(encoding="ascii").split()
    control = group / "cgroup.subtree_control"
    given = control.read_text(encoding="ascii").split()
    missing = []
    for name in UNIFIED:
        if name in there and name not in given:
            try:
                control.write_text(f"+{name}")
            except OSError as error:
                missing.append(f"no {name} controller below {group}: {error.strerror}")
    return missing


def remove_tree(top: Path) -> None:
    """Remove a dead launcher's group; its processes died with it (its pid namespace)."""
    for directory, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
