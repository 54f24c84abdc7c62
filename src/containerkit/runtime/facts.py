"""What this host and caller can do, as the plan compiler asks it.

Owns the reading of it.  Probes features, never versions; decides nothing.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from containerkit.launch.request import HostFacts
from containerkit.runtime import cgroups

if TYPE_CHECKING:
    from containerkit.runtime.launcher import Launcher

# The launcher's `enum ck_feature`, by the names that notes and reports use.
_FEATURES = {1: "overlay lowerdir+", 2: "spare child", 4: "network namespace pool"}
_RESOURCES = 16


def gather(launcher: Launcher) -> HostFacts:
    """Return the facts that hold for containers of this launcher."""
    group = launcher.group
    version = cgroups.find().version if group.names else None
    return HostFacts(
        cgroup=version,
        controllers=group.controllers,
        cgroup_files=group.files,
        rlimits=tuple((number, *resource.getrlimit(number)) for number in range(_RESOURCES)),
        capabilities=_capabilities(),
        features=frozenset(name for bit, name in _FEATURES.items() if launcher.features & bit),
        euid=os.geteuid(),
        hostname=os.uname().nodename,
    )


def _capabilities() -> int:
    """Those that are both held and in the bounding set (capabilities(7))."""
    held = bounding = 0
    for line in (
        Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    ):
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
        elif line.startswith("CapBnd:"):
            bounding = int(line.split()[1], 16)
    return held & bounding


def of_caller() -> HostFacts:
    """Return what holds for anything that this process starts: its limits and capabilities."""
    return HostFacts(
        rlimits=tuple((number, *resource.getrlimit(number)) for number in range(_RESOURCES)),
        capabilities=_capabilities(),
        euid=os.geteuid(),
        hostname=os.uname().nodename,
    )
