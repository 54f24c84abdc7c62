"""What this host and caller can do, as the plan compiler asks it.

Owns the reading of it.  Probes features, never versions; decides nothing.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from containerkit.errors import refusals
from containerkit.launch.request import HostFacts

if TYPE_CHECKING:
    from containerkit.runtime.launcher import Launcher

# The launcher's `enum ck_feature`, by the names that notes and reports use.
_FEATURES = {1: "overlay lowerdir+", 2: "spare child", 4: "network namespace pool"}
_RESOURCES = 16

Rlimits = tuple[tuple[int, int, int], ...]
"""(resource, soft, hard) of each."""


def gather(launcher: Launcher) -> HostFacts:
    """Return the facts that hold for containers of this launcher."""
    group = launcher.group
    return HostFacts(
        cgroup=launcher.version if group.names else None,
        controllers=group.controllers,
        cgroup_files=group.files,
        rlimits=tuple((number, *resource.getrlimit(number)) for number in range(_RESOURCES)),
        capabilities=_capabilities(),
        features=frozenset(name for bit, name in _FEATURES.items() if launcher.features & bit),
        euid=os.geteuid(),
        hostname=os.uname().nodename,
    )


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


@refusals("read the capabilities of this process")
def _capabilities() -> int:
    """Those that are both held and in the bounding set (capabilities(7))."""
    held = bounding = 0
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    for line in text.split("\n"):  # of a process whose name may hold any other character
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
        elif line.startswith("CapBnd:"):
            bounding = int(line.split()[1], 16)
    return held & bounding


def of_caller(rlimits: Rlimits | None = None) -> HostFacts:
    """Return what holds for anything that this process starts: its limits and capabilities.

    Args:
        rlimits: those of a container, for what is started in it; None: this process's.
    """
    if rlimits is None:
        rlimits = tuple((number, *resource.getrlimit(number)) for number in range(_RESOURCES))
    return HostFacts(
        rlimits=rlimits,
        capabilities=_capabilities(),
        euid=os.geteuid(),
        hostname=os.uname().nodename,
    )
