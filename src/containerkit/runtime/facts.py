"""What this host and caller can do, as the plan compiler asks it.

Owns the reading of it.  Probes features, never versions (a profile of system calls may ask for the
kernel's); decides nothing.
"""

from __future__ import annotations

import glob
import os
import re
import resource
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from containerkit.errors import refusals
from containerkit.launch.bare import is_in_place
from containerkit.launch.request import HostFacts, Ids
from containerkit.runtime.inputs import host_file
from containerkit.runtime.nested import has_devices
from containerkit.runtime.rootfiles import Accounts, accounts
from containerkit.state.procstatus import status_of
from containerkit.state.userns import WHOLE, is_bare, read_map

if TYPE_CHECKING:
    from containerkit.model.rootfs import Rootfs
    from containerkit.runtime.launcher import Launcher

_RESOURCES = 16

HARDWARE: Final = ("/sys/devices/system/cpu/cpu*/thermal_throttle",)
"""What is hidden of each device that a host has, as moby does (GHSA-6fw5-f8r9-fgfm)."""

Rlimits = tuple[tuple[int, int, int], ...]
"""(resource, soft, hard) of each."""


class Given(NamedTuple):
    """What a container was given by the launcher that runs it, whoever asks for an exec in it.

    Attributes:
        rlimits: its first process's, which the launcher can not raise for others.
        capabilities: those that its launcher can give.
        ids: those that it has.
    """

    rlimits: Rlimits
    capabilities: int
    ids: Ids | None = None


def kernel() -> tuple[int, int]:
    """Return the version of the running Linux: two numbers, (0, 0) where it does not say."""
    found = re.match(r"([0-9]+)\.([0-9]+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def gather(launcher: Launcher) -> HostFacts:
    """Return the facts that hold for containers of this launcher."""
    group = launcher.group
    return HostFacts(
        cgroup=launcher.version if group.names else None,
        controllers=group.controllers,
        cgroup_files=group.files,
        rlimits=tuple((number, *resource.getrlimit(number)) for number in range(_RESOURCES)),
        capabilities=capabilities(launcher.pid),
        ids=ids_of(launcher.pid),
        euid=os.geteuid(),
        egid=os.getegid(),
        hostname=os.uname().nodename,
        machine=os.uname().machine,
        kernel=kernel(),
        hardware=hardware(),
        bare=launcher.bare,
        devices=not launcher.bare or has_devices(launcher.root),
    )


@cache
def hardware() -> tuple[str, ...]:
    """Return the paths of `HARDWARE` that this host has."""
    return tuple(sorted(path for pattern in HARDWARE for path in glob.iglob(pattern)))


@refusals("read the limits of the container's launcher")
def rlimits_of(pid: int | None) -> Rlimits | None:
    """Return the limits of another process; None when there is no such process any more.

    In the order of their numbers, which anybody may read, unlike by prlimit(2) (proc_pid_limits(5)).
    """
    try:
        lines = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return None
    pairs = [(_rlimit(line[26:46]), _rlimit(line[47:67])) for line in lines[:_RESOURCES]]
    return tuple((number, *pair) for number, pair in enumerate(pairs)) or None


def _rlimit(text: str) -> int:
    return resource.RLIM_INFINITY if text.strip() == "unlimited" else int(text)


@refusals("read the capabilities of a process")
def _status(process: int | str) -> dict[str, str]:
    """Return the lines of proc_pid_status(5); of a process that has ended, none."""
    try:
        return status_of(process)
    except (FileNotFoundError, ProcessLookupError):
        return {}


def capabilities(process: int | str = "self") -> int:
    """Return those of a process that are both held and in its bounding set (capabilities(7))."""
    status = _status(process)
    return int(status.get("CapEff", "0"), 16) & int(status.get("CapBnd", "0"), 16)


@refusals("read the ids of a process")
def ids_of(process: int | str) -> Ids | None:
    """Return those of a process's user namespace; None: all that there are, or it has ended."""
    try:
        ids = Ids(
            *(
                tuple((first, count) for first, _, count in read_map(f"/proc/{process}/{kind}_map"))
                for kind in ("uid", "gid")
            )
        )
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if ids.uids == ids.gids == ((0, WHOLE[0][2]),) else ids


def given(pid: int | None) -> Given | None:
    """Return what the container with a first process was given; None where that is not seen here.

    Args:
        pid: as this process sees it; its launcher is its parent.
    """
    rlimits = rlimits_of(pid)
    parent = int(_status(pid).get("PPid", "0")) if rlimits and pid is not None else 0
    return Given(rlimits, capabilities(parent), ids_of(parent)) if rlimits and parent else None


def accounts_of(root: Path, rootfs: Rootfs, *, bare: bool) -> Accounts:
    """Return the files of users and groups that a container sees: this program's own, in place."""
    if bare and is_in_place(rootfs):
        return Accounts(host_file("/etc/passwd"), host_file("/etc/group"))
    return accounts(root, rootfs)


def of_caller(found: Given | None = None) -> HostFacts:
    """Return what holds for anything that this process starts: its limits and capabilities.

    Args:
        found: of a container, for what is started in it; None: this process's.
    """
    if found is None:
        rlimits = tuple((number, *resource.getrlimit(number)) for number in range(_RESOURCES))
        found = Given(rlimits, capabilities())
    return HostFacts(
        rlimits=found.rlimits,
        capabilities=found.capabilities,
        ids=found.ids,
        euid=os.geteuid(),
        egid=os.getegid(),
        hostname=os.uname().nodename,
        machine=os.uname().machine,
        kernel=kernel(),
        bare=is_bare(),
    )
