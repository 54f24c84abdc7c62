"""Limits as the kernel wants them: files of control groups, version 1 and 2, and rlimits.

Owns that mapping, for a start; `updates` has what changes while it runs.  Must not write anything.  What is
set only by default is left out, with a note, where the host can not do it; what was asked for
raises.

Spec: kernel documentation, cgroup-v1 (memory, blkio-controller, cpusets) and cgroup-v2.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.capabilities import mask_of
from containerkit.launch.ops import Code, Op
from containerkit.launch.wire import packed
from containerkit.model.limits import (
    RESOURCES,
    RLIM_INFINITY,
    IoLimit,
    Limits,
    Ulimit,
    Unlimited,
)

if TYPE_CHECKING:
    from containerkit.launch.request import HostFacts

DEFAULT_PIDS: Final = 2048
"""Processes and threads of a container: podman's default.  Docker has none, and a fork bomb then
takes the host with it; the busiest test suites seen stay below 1,000."""

DEFAULT_SHM: Final = 64 << 20
DEFAULT_DISK: Final = 256 << 20

_WITHOUT: Final = (
    "Engine.probe() says why; leave the limit out, or lift it with UNLIMITED, to start without it"
)
_DELEGATE: Final = (
    "an ordinary user has control groups where they are delegated: run the program by"
    " systemd-run --user --scope -p Delegate=yes; without, the preset strict starts with"
    " limits=Limits(memory=UNLIMITED, cpus=UNLIMITED, pids=UNLIMITED, ulimits={'nproc': 128})"
)

SOCKETS: Final = "memory.kmem.tcp.limit_in_bytes"
"""What TCP and UDP have in buffers: version 1 counts that apart from memory, and only where it is limited."""

OPTIONAL_FILES: Final = (
    SOCKETS,
    "memory.memsw.limit_in_bytes",  # CONFIG_SWAP, and swapaccount=1 before Linux 5.8
    "memory.swap.max",
    "cpu.cfs_quota_us",  # CONFIG_CFS_BANDWIDTH
    "cpu.max",
    "blkio.throttle.read_bps_device",  # CONFIG_BLK_DEV_THROTTLING: it stands for its three like
    "io.max",
    "blkio.weight",  # cfq, until Linux 5.0
    "blkio.bfq.weight",  # a device whose scheduler is bfq
    "io.weight",  # CONFIG_BLK_CGROUP_IOCOST
    "io.bfq.weight",
)
"""Files of control groups that a kernel with their controller may lack."""

PERIOD_US: Final = 100_000
RATES: Final = (
    ("read_bps", "blkio.throttle.read_bps_device", "rbps"),
    ("write_bps", "blkio.throttle.write_bps_device", "wbps"),
    ("read_iops", "blkio.throttle.read_iops_device", "riops"),
    ("write_iops", "blkio.throttle.write_iops_device", "wiops"),
)
TOTAL: Final = ("memory", "memory.memsw.limit_in_bytes", "")
DEFAULTS: Final = Limits()

LIFTED: Final = Limits(
    memory=Unlimited.UNLIMITED,
    pids=Unlimited.UNLIMITED,
    shm_size=Unlimited.UNLIMITED,
    disk=Unlimited.UNLIMITED,
)

_NO_DEVICES: Final[Mapping[str, str]] = {}

Settings = dict[tuple[str, str, str], str]
"""(controller, file, device or "") → value, in the order in which a new group takes them."""


def cgroup_settings(
    limits: Limits,
    facts: HostFacts,
    notes: list[str],
    devices: Mapping[str, str] = _NO_DEVICES,
) -> tuple[str, ...]:
    """Return the settings of a container's control group as (controller, file, value) in a row.

    Args:
        limits: what was asked for; its ulimits are only checked.
        facts: version and controllers.
        notes: gets a sentence for a default that the host can not hold.
        devices: the numbers of the block devices that are named by path.

    Raises:
        ConfigError: a device that is none.
        MissingFeature: a limit was asked for and its controller is not there.
    """
    if limits.pids is None and "pids" not in facts.controllers:
        notes.append("no limit on processes: the host has no pids controller to use")
    settings = settings_of(limits, facts, devices)
    if limits is not DEFAULTS:
        require(settings, facts, limits)
        _check_ulimits(limits.ulimits, facts)
    return triples(settings)


def triples(settings: Settings) -> tuple[str, ...]:
    """Return settings as (controller, file, value) in a row."""
    return tuple(
        text
        for (controller, file, device), value in settings.items()
        for text in (controller, file, f"{device} {value}" if device else value)
    )


def settings_of(limits: Limits, facts: HostFacts, devices: Mapping[str, str]) -> Settings:
    """Return what holds the limits, whether this host can or not."""
    found: Settings = {}
    if limits.pids is None:
        if "pids" in facts.controllers:
            found["pids", "pids.max", ""] = str(DEFAULT_PIDS)
    elif isinstance(limits.pids, int):
        found["pids", "pids.max", ""] = str(limits.pids)
    if limits is not DEFAULTS:
        version = 2 if facts.cgroup == "v2" else 1
        _add_memory(found, limits, facts, version)
        _add_cpu(found, limits, version)
        _add_io(found, limits, facts, devices)
    return found


def memory_of(limits: Limits) -> float:
    """Return the limit on memory, in bytes."""
    return limits.memory if isinstance(limits.memory, int) else float("inf")


def total_of(limits: Limits) -> float:
    """Return memory and swap together; twice the memory by default, as Docker."""
    if isinstance(limits.memory_swap, int):
        return limits.memory_swap
    return float("inf") if limits.memory_swap is not None else 2 * memory_of(limits)


def _add_memory(found: Settings, limits: Limits, facts: HostFacts, version: int) -> None:
    if not isinstance(limits.memory, int):
        return
    name = "memory.max" if version == 2 else "memory.limit_in_bytes"
    found["memory", name, ""] = str(limits.memory)
    name = "memory.swap.max" if version == 2 else "memory.memsw.limit_in_bytes"
    total = total_of(limits)
    if total < float("inf") and (limits.memory_swap is not None or name in facts.cgroup_files):
        # After the other: version 1 refuses a sum below memory.
        found["memory", name, ""] = str(int(total) - (limits.memory if version == 2 else 0))
    if version == 1 and SOCKETS in facts.cgroup_files:
        found["memory", SOCKETS, ""] = str(limits.memory)


def _add_cpu(found: Settings, limits: Limits, version: int) -> None:
    if isinstance(limits.cpus, float):
        quota = max(1000, round(limits.cpus * PERIOD_US))
        if version == 2:
            found["cpu", "cpu.max", ""] = f"{quota} {PERIOD_US}"
        else:  # its period is this one in every new group
            found["cpu", "cpu.cfs_quota_us", ""] = str(quota)
    if isinstance(limits.cpu_shares, int):
        if version == 2:
            # The conversion that runc and systemd settled on: 2..262144 onto 1..10000.
            weight = 1 + (limits.cpu_shares - 2) * 9999 // 262142
            found["cpu", "cpu.weight", ""] = str(weight)
        else:
            found["cpu", "cpu.shares", ""] = str(limits.cpu_shares)
    if limits.cpuset is not None:
        found["cpuset", "cpuset.cpus", ""] = limits.cpuset


def _add_io(found: Settings, limits: Limits, facts: HostFacts, devices: Mapping[str, str]) -> None:
    for limit in limits.io:
        number = _number(limit, devices)
        rates = [(getattr(limit, field), file, key) for field, file, key in RATES]
        if facts.cgroup == "v2":
            texts = (f"{key}={'max' if rate is None else rate}" for rate, _, key in rates)
            found["io", "io.max", number] = " ".join(texts)
            continue
        for rate, file, _ in rates:
            if rate is not None:
                found["blkio", file, number] = str(rate)
    weight = limits.io_weight
    if not isinstance(weight, int):
        return
    if facts.cgroup != "v2":
        file = "blkio.bfq.weight" if "blkio.bfq.weight" in facts.cgroup_files else "blkio.weight"
        found["blkio", file, ""] = str(weight)
    elif "io.bfq.weight" in facts.cgroup_files:
        found["io", "io.bfq.weight", ""] = str(weight)
    else:  # runc's conversion: 10..1000 onto 1..10000
        found["io", "io.weight", ""] = str(1 + (weight - 10) * 9999 // 990)


def _number(limit: IoLimit, devices: Mapping[str, str]) -> str:
    number = devices.get(limit.device, limit.device)
    if number.startswith("/"):
        raise ConfigError(f"io: {number} is not a block device")
    return number


def require(settings: Settings, facts: HostFacts, limits: Limits) -> None:
    """Raise `MissingFeature` for the first setting that this host can not hold."""
    for (controller, file, _), value in settings.items():
        if controller not in facts.controllers:
            raise MissingFeature(
                f"cannot set {file} to {value}: the host has no {controller} controller to use",
                hint=_WITHOUT if facts.ids is None else f"{_WITHOUT}; {_DELEGATE}",
                feature=f"cgroup {controller}",
            )
        known = "blkio.throttle.read_bps_device" if "blkio.throttle." in file else file
        if known in OPTIONAL_FILES and known not in facts.cgroup_files:
            raise MissingFeature(
                f"cannot set {file} to {value}: this kernel does not have it",
                hint="leave the limit out, or lift it with UNLIMITED, to start without it",
                feature=file,
            )
    if limits.memory_swap is not None and facts.cgroup is None:
        raise MissingFeature("cannot limit swap: there are no control groups", feature="cgroup")


def _check_ulimits(ulimits: tuple[Ulimit, ...], facts: HostFacts) -> None:
    """Refuse what setrlimit(2) refuses: a hard limit above the caller's own, without the right."""
    if facts.capabilities & mask_of(("SYS_RESOURCE",)):
        return
    own = {resource: hard & RLIM_INFINITY for resource, _, hard in facts.rlimits}
    for limit in ulimits:
        if limit.hard > own.get(RESOURCES[limit.name], RLIM_INFINITY):
            raise MissingFeature(
                f"cannot raise the limit {limit.name} to {limit.hard}: this process's own is"
                f" {own[RESOURCES[limit.name]]}, and it has not the capability SYS_RESOURCE",
                feature=f"ulimit {limit.name}",
            )


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
