"""Which control groups a container takes, and who may have them next.

Owns what a container's settings mean for the launcher, which makes groups ahead and uses them again.
Neighbours: `limits` and `devices` make the settings; ``ck_launcher_pool.c`` puts them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from containerkit.launch.devices import MORE
from containerkit.launch.ops import F_SPOILT, F_TUNED, F_UNCOMMON
from containerkit.model.limits import Limits

UNCOMMON: Final = ("cpuset", "blkio", MORE)
"""What only those containers get a group of that ask for such a limit, or device (version 1)."""

PUT_BACK: Final = frozenset(
    (
        "memory.memsw.limit_in_bytes",
        "memory.limit_in_bytes",
        "memory.kmem.tcp.limit_in_bytes",
        "cpu.cfs_quota_us",
    )
)
"""What the launcher can put back, so that another container has the group next."""


def uses_uncommon(limits: Limits) -> bool:
    """Return whether one needs a controller that most containers are in no group of (version 1)."""
    return limits.cpuset is not None or bool(limits.io) or limits.io_weight is not None


def cgroup_flags(settings: Sequence[str], version: str | None) -> int:
    """Return what settings mean for who may have the group next: ``F_*`` of the step CGROUP.

    Args:
        settings: (controller, file, value) in a row.
        version: of the host's control groups.
    """
    flags = 0
    for controller, file in zip(settings[::3], settings[1::3], strict=True):
        if controller in UNCOMMON and version != "v2":
            flags |= F_UNCOMMON
        if file != "pids.max":
            flags |= F_TUNED if file in PUT_BACK else F_TUNED | F_SPOILT
    return flags
