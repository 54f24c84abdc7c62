"""Limits as the kernel wants them: files of control groups, version 1 and 2, and rlimits.

Owns that mapping.  Must not write anything.  What is set only by default is left out, with a note,
where the host can not do it; what was asked for raises.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from containerkit.errors import MissingFeature
from containerkit.launch.ops import Code, Op
from containerkit.launch.wire import packed
from containerkit.model.limits import RESOURCES, RLIM_INFINITY, Limits, Ulimit, Unlimited

if TYPE_CHECKING:
    from containerkit.launch.request import HostFacts

DEFAULT_PIDS: Final = 2048
"""Processes and threads of a container: podman's default.  Docker has none, and a fork bomb then
takes the host with it; the busiest test suites seen stay below 1,000."""

DEFAULT_SHM: Final = 64 << 20
DEFAULT_DISK: Final = 256 << 20

_PERIOD_US: Final = 100_000

DEFAULTS: Final = Limits()

Triple = tuple[str, str, str]


def cgroup_settings(limits: Limits, facts: HostFacts, notes: list[str]) -> tuple[str, ...]:
    """Return the settings of a container's control group as (controller, file, value) in a row.

    Args:
        limits: what was asked for.
        facts: version and controllers.
        notes: gets a sentence for a default that the host can not hold.

    Raises:
        MissingFeature: a limit was asked for and its controller is not there.
    """
    found: list[Triple] = []
    version = 2 if facts.cgroup == "v2" else 1
    if limits.pids is None:
        if "pids" in facts.controllers:
            found.append(("pids", "pids.max", str(DEFAULT_PIDS)))
        else:
            notes.append("no limit on processes: the host has no pids controller to use")
    elif isinstance(limits.pids, int):
        found.append(("pids", "pids.max", str(limits.pids)))
    if limits is not DEFAULTS:
        found += _memory(limits, version)
        found += _cpu(limits, version)
        _require(found, facts, limits)
    return tuple(text for triple in found for text in triple)


def _memory(limits: Limits, version: int) -> list[Triple]:
    memory, total = limits.memory, limits.memory_swap
    if not isinstance(memory, int):
        return []
    if version == 2:
        found = [("memory", "memory.max", str(memory))]
        if isinstance(total, int):
            found.append(("memory", "memory.swap.max", str(total - memory)))
        return found
    found = [("memory", "memory.limit_in_bytes", str(memory))]
    if isinstance(total, int):  # after the other: the kernel refuses a sum below memory
        found.append(("memory", "memory.memsw.limit_in_bytes", str(total)))
    return found


def _cpu(limits: Limits, version: int) -> list[Triple]:
    found: list[Triple] = []
    if isinstance(limits.cpus, float):
        quota = max(1000, round(limits.cpus * _PERIOD_US))
        if version == 2:
            found.append(("cpu", "cpu.max", f"{quota} {_PERIOD_US}"))
        else:
            found.append(("cpu", "cpu.cfs_period_us", str(_PERIOD_US)))
            found.append(("cpu", "cpu.cfs_quota_us", str(quota)))
    if isinstance(limits.cpu_shares, int):
        if version == 2:
            # The conversion that runc and systemd settled on: 2..262144 onto 1..10000.
            weight = 1 + (limits.cpu_shares - 2) * 9999 // 262142
            found.append(("cpu", "cpu.weight", str(weight)))
        else:
            found.append(("cpu", "cpu.shares", str(limits.cpu_shares)))
    if limits.cpuset is not None:
        if version == 1:
            # A new cpuset of version 1 has no memory nodes, and takes no process before it has.
            raise MissingFeature("cannot limit cpuset: it needs cgroup version 2", feature="cpuset")
        found.append(("cpuset", "cpuset.cpus", limits.cpuset))
    return found


def _require(found: list[Triple], facts: HostFacts, limits: Limits) -> None:
    for controller, file, value in found:
        if controller not in facts.controllers:
            raise MissingFeature(
                f"cannot set {file} to {value}: the host has no {controller} controller to use",
                hint="Engine.probe() says why; leave the limit out to start without it",
                feature=f"cgroup {controller}",
            )
    if limits.memory_swap is not None and facts.cgroup is None:
        raise MissingFeature("cannot limit swap: there are no control groups", feature="cgroup")


@lru_cache(maxsize=32)
def rlimit_ops(
    original: tuple[tuple[int, int, int], ...], ulimits: tuple[Ulimit, ...]
) -> tuple[Op, ...]:
    """Return the RLIMIT steps: the caller's own limits, where not overridden.

    Args:
        original: (resource, soft, hard) of the caller, as it had them before the launcher raised
            its own; -1 is unlimited.
        ulimits: of the container.
    """
    limits = {resource: (soft, hard) for resource, soft, hard in original}
    limits |= {RESOURCES[name]: (soft, hard) for name, soft, hard in ulimits}
    return tuple(
        packed(
            Op(
                Code.RLIMIT,
                flags=resource,
                value=(soft & RLIM_INFINITY, hard & RLIM_INFINITY),
            )
        )
        for resource, (soft, hard) in sorted(limits.items())
    )


def bytes_of(value: int | Unlimited | None, default: int) -> int:
    """Return a size with its default; 0, the kernel's word for it, when it is lifted."""
    if value is None:
        return default
    return 0 if isinstance(value, Unlimited) else value
