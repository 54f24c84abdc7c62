"""Control groups, as `engine.probe()` reports them: which, in which version, whether ours to use.

Owns: a feature for each controller, and what a detached container would end with.  Must not: make
a group to find out; whether one may be made is asked of permissions.
Neighbours: `runtime.cgroups` says where this process is, `care.probe` puts this in its report.

Spec: cgroups(7); kernel documentation, cgroup-v2, Delegation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from containerkit.care import kernel
from containerkit.model.host import HostFeature
from containerkit.runtime import cgroups

_PURPOSES: Final = {
    "pids": "Limits(pids=…), and telling a fork bomb from other ends",
    "memory": "Limits(memory=…), memory in stats, and telling out-of-memory from other kills",
    "cpu": "Limits(cpus=…, cpu_shares=…)",
    "cpuset": "Limits(cpuset=…)",
    "io": "Limits(io=…), and input and output in stats",
    "freezer": "pause(), and ending everything an exec started at one moment",
    "cpuacct": "processor time in stats",
    "devices": "keeping containers from the host's devices",
}
_OF_VERSION_1: Final = {"io": "blkio"}
_CORE_OF_VERSION_2: Final = frozenset(("freezer", "cpuacct", "devices"))
"""What is no controller in version 2, and always there: freezing, time, and programs for devices."""

_PROGRAMS: Final = "CAP_BPF and CAP_NET_ADMIN, or root; a filter around us may refuse bpf(2)"

_STANDS_IN: Final = "such a limit raises MissingFeature when it is asked for, defaults are left out"


def features() -> Iterator[HostFeature]:
    """Yield a feature for the groups as such, and one for each controller."""
    found = cgroups.find()
    here = ", ".join(sorted({str(path) for path in found.directories.values()}))
    yield HostFeature(
        "cgroups",
        found.version is not None,
        f"{found.version}, this process is in {here}" if found.version else "none is mounted",
        "limits, statistics, and killing everything of a container at once",
        "containers run without limits; their processes end with their pid namespace",
        "" if found.version else "mount cgroup2 on /sys/fs/cgroup",
    )
    for name, purpose in _PURPOSES.items():
        present, said = _controller(found, name)
        knob = "" if present else _PROGRAMS if "program" in said else _knob(found)
        yield HostFeature(f"cgroup {name}", present, said, purpose, _STANDS_IN, knob)


def _controller(found: cgroups.Hierarchies, name: str) -> tuple[bool, str]:
    if found.version == "v2":
        return _of_version_2(found, name)
    directory = found.directories.get(_OF_VERSION_1.get(name, name))
    return (False, "not mounted") if directory is None else _writable(directory)


def _of_version_2(found: cgroups.Hierarchies, name: str) -> tuple[bool, str]:
    """Look where a launcher's group would be made: in this process's own, or beside that."""
    reasons = []
    for place in cgroups.places(found, "unified", detached=False):
        refused = cgroups.refusal(place)
        if refused:
            reasons.append(refused)
        elif name == "devices" and not (answer := kernel.device_program()).known:
            return False, f"no program may be loaded for them ({answer.said})"
        elif name in _CORE_OF_VERSION_2 or name in _words(place / "cgroup.controllers"):
            return _writable(place)
        else:
            return False, f"not handed down to {place}"
    return False, "; ".join(reasons)


def _writable(directory: Path) -> tuple[bool, str]:
    if os.access(directory, os.W_OK):
        return True, f"groups may be made in {directory}"
    return False, f"no group may be made in {directory}"


def _words(path: Path) -> frozenset[str]:
    try:
        return frozenset(path.read_text(encoding="ascii").split())
    except OSError:
        return frozenset()


def _knob(found: cgroups.Hierarchies) -> str:
    if found.version == "v2":
        by = "systemd-run --user" if os.geteuid() else "systemd-run"
        return f"{by} --scope -p Delegate=yes …, or Delegate=yes in the service"
    if os.geteuid():
        return (
            "as root: make a group in its hierarchy, give it to this user (chown -R), and start"
            " this program in it; or boot with version 2, where systemd hands groups down to users"
        )
    return "mount its hierarchy writable; in a container, give it the host's or a private one"


def detached_ends_with() -> tuple[str, ...]:
    """Return what a detached container of this process would end with; nothing: only by itself."""
    ends = []
    if os.readlink("/proc/self/ns/pid") != "pid:[4026531836]":  # PROC_PID_INIT_INO
        ends.append("the container that this program itself is in")
    found = cgroups.find()
    kept = [
        directory
        for name, directory in found.directories.items()
        if directory != found.tops[name] and not os.access(found.tops[name], os.W_OK)
    ]
    if kept:
        ends.append(f"this program's control group {kept[0]}, when that is ended as a whole")
    return tuple(ends)
