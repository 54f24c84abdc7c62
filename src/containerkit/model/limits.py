"""How much a container may use, and the grammar of sizes.

Owns the values `Limits` and `IoLimit`, `UNLIMITED` and `parse_size`.  Must not know files of control groups;
`launch.limits` maps these values to both versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple

import attrs

from containerkit.errors import ConfigError

_SIZE: Final = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?\s?([bkmgtp]?)(i?b)?", re.IGNORECASE)
_CPUSET: Final = re.compile(r"[0-9]{1,5}(?:-[0-9]{1,5})?(?:,[0-9]{1,5}(?:-[0-9]{1,5})?)*")
_SIZE_MAX: Final = (1 << 63) - 1
_DEVICE: Final = re.compile(r"[0-9]{1,4}:[0-9]{1,7}|/[^\x00-\x1f]{1,4095}")

# bits/resource.h
RESOURCES: Final = {
    "cpu": 0,
    "fsize": 1,
    "data": 2,
    "stack": 3,
    "core": 4,
    "rss": 5,
    "nproc": 6,
    "nofile": 7,
    "memlock": 8,
    "as": 9,
    "locks": 10,
    "sigpending": 11,
    "msgqueue": 12,
    "nice": 13,
    "rtprio": 14,
    "rttime": 15,
}
"""Resources of setrlimit(2) and their numbers."""

RLIM_INFINITY: Final = (1 << 64) - 1


class Unlimited(Enum):
    """The type of `UNLIMITED`."""

    UNLIMITED = "unlimited"

    def __repr__(self) -> str:
        return "UNLIMITED"


UNLIMITED: Final = Unlimited.UNLIMITED
"""Lifts a limit that the engine sets by default."""


def _is_whole(value: object) -> bool:
    """Whether a value is an int, and no bool: what a caller gives is not always what it says."""
    return isinstance(value, int) and not isinstance(value, bool)


def parse_size(value: int | str, *, what: str = "size") -> int:
    """Return a size in bytes.

    Args:
        value: bytes, or a text such as "64m", "1GiB", "1.5 GB", "512": powers of 1024, as Docker.
        what: the name of the option, for the message.

    Raises:
        ConfigError: neither, negative, or above 2**63 - 1.
    """
    if isinstance(value, int) and _is_whole(value):
        size = value
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) and value.isascii() else None
        if match is None or (match[3].lower() in {"", "b"} and match[4]):
            raise ConfigError(
                f"{what}: {value!r} is not a size", hint='an int of bytes, or as "64m" or "1GiB"'
            )
        shift = 10 * " kmgtp".index(match[3].lower().replace("b", "") or " ")
        fraction = match[2] or ""
        size = (int(match[1] + fraction) << shift) // 10 ** len(fraction)
    if not 0 <= size <= _SIZE_MAX:
        raise ConfigError(f"{what}: {value!r} is out of range")
    return size


class Ulimit(NamedTuple):
    """One limit of setrlimit(2)."""

    name: str
    soft: int
    hard: int


UlimitValue = int | tuple[int, int] | Unlimited
Size = int | str | Unlimited | None
Count = int | Unlimited | None


def _size(field: str, value: Size, least: int) -> int | Unlimited | None:
    if value is None or isinstance(value, Unlimited):
        return value
    size = parse_size(value, what=field)
    if size < least:
        raise ConfigError(f"{field}: {value!r} is below {least} bytes")
    return size


def _count(field: str, value: Count, least: int, most: int) -> Count:
    if value is None or isinstance(value, Unlimited):
        return value
    if not _is_whole(value) or not least <= value <= most:
        raise ConfigError(f"{field}: {value!r} is not a number from {least} to {most}")
    return value


# One function a field: type checkers read what a field takes from its converter.


def _memory(value: Size) -> int | Unlimited | None:
    return _size("memory", value, 6 << 20)


def _memory_swap(value: Size) -> int | Unlimited | None:
    return _size("memory_swap", value, 6 << 20)


def _shm_size(value: Size) -> int | Unlimited | None:
    return _size("shm_size", value, 4096)


def _disk(value: Size) -> int | Unlimited | None:
    return _size("disk", value, 1 << 16)


def _cpu_shares(value: Count) -> Count:
    return _count("cpu_shares", value, 2, 262144)


def _pids(value: Count) -> Count:
    return _count("pids", value, 1, 4194304)


def _io_weight(value: Count) -> Count:
    return _count("io_weight", value, 10, 1000)


def _bps(value: int | str | None) -> int | None:
    return None if value is None else _positive(parse_size(value, what="bytes a second"))


def _iops(value: int | None) -> int | None:
    return None if value is None else _positive(value)


def _positive(value: int) -> int:
    if not _is_whole(value) or not 0 < value <= _SIZE_MAX:
        raise ConfigError(f"io: {value!r} is not a rate", hint="leave out what is not limited")
    return value


def _device(value: str) -> str:
    if not _DEVICE.fullmatch(str(value)):
        raise ConfigError(
            f"io: {value!r} is not a device", hint='as "/dev/sda", or its numbers, as "8:0"'
        )
    return value


def _io(value: IoLimit | Iterable[IoLimit]) -> tuple[IoLimit, ...]:
    limits = (value,) if isinstance(value, IoLimit) else tuple(value)
    seen = set()
    for limit in limits:
        if not isinstance(limit, IoLimit):
            raise ConfigError(f"io: {limit!r} is not an IoLimit")
        if limit.device in seen:
            raise ConfigError(f"io: {limit.device} is limited twice")
        seen.add(limit.device)
    return limits


def _cpus(value: float | Unlimited | None) -> float | Unlimited | None:
    if value is None or isinstance(value, Unlimited):
        return value
    if not (_is_whole(value) or type(value) is float) or not 0.01 <= value <= 65536:
        raise ConfigError(f"cpus: {value!r} is not a number from 0.01 to 65536")
    return float(value)


def _cpuset(value: str | None) -> str | None:
    if value is not None and not _CPUSET.fullmatch(str(value)):
        raise ConfigError(f"cpuset: {value!r} is not a list of CPUs", hint='as "0-3,7"')
    return value


def _ulimits(value: Mapping[str, UlimitValue]) -> tuple[Ulimit, ...]:
    given: object = value
    if isinstance(given, tuple):  # attrs.evolve hands the converted value back
        return given
    return tuple(_ulimit(name, limit) for name, limit in value.items())


def _ulimit(name: str, given: UlimitValue) -> Ulimit:
    if name not in RESOURCES:
        raise ConfigError(f"ulimits: no resource {name!r}", hint=f"one of {', '.join(RESOURCES)}")
    if isinstance(given, Unlimited):
        return Ulimit(name, RLIM_INFINITY, RLIM_INFINITY)
    soft, hard = given if isinstance(given, tuple) else (given, given)
    values = [RLIM_INFINITY if number == -1 else number for number in (soft, hard)]
    for number in values:
        if not _is_whole(number) or not 0 <= number <= RLIM_INFINITY:
            raise ConfigError(f"ulimits: {name} can not be {given!r}")
    if values[0] > values[1]:
        raise ConfigError(f"ulimits: {name}: the soft limit {soft} is above the hard one, {hard}")
    return Ulimit(name, values[0], values[1])


@attrs.frozen
class IoLimit:
    """How fast a container may read and write one block device; None: as fast as it can.

    What goes through the page cache counts when it reaches the device; in cgroup version 1 only
    direct and synchronous writes do.

    Args:
        device: path ("/dev/sda") or numbers ("8:0"); a partition stands for its whole disk.
        read_bps, write_bps: bytes a second, or text ("10m").
        read_iops, write_iops: operations a second.

    Raises:
        ConfigError: a value without meaning.
    """

    device: str = attrs.field(converter=_device)
    read_bps: int | None = attrs.field(default=None, converter=_bps, kw_only=True)
    write_bps: int | None = attrs.field(default=None, converter=_bps, kw_only=True)
    read_iops: int | None = attrs.field(default=None, converter=_iops, kw_only=True)
    write_iops: int | None = attrs.field(default=None, converter=_iops, kw_only=True)


@attrs.frozen(kw_only=True)
class Limits:
    """How much a container may use.  None: the engine's default; `UNLIMITED` lifts that.

    Args:
        memory: bytes or text ("512m"), at least 6 MiB.
        memory_swap: memory and swap together, at least ``memory``; equal to it: no swap.  By
            default twice ``memory``, as Docker.
        cpus: processors' worth of time, such as 0.5.
        cpu_shares: weight against others, 2 to 262144; the kernel's own is 1024.
        cpuset: processors it may run on, "0-3,7".
        pids: processes and threads; 2,048 by default.
        io: rates of block devices, one or more `IoLimit`.
        io_weight: share of block devices against others, 10 to 1000, where the device's scheduler
            knows weights.
        shm_size: of /dev/shm; 64 MiB by default.
        disk: what it may write outside of mounts; 256 MiB by default for `run`.
        ulimits: by resource ("nofile"), soft and hard alike or (soft, hard); -1 is unlimited.

    Raises:
        ConfigError: a value out of range.
    """

    memory: int | Unlimited | None = attrs.field(default=None, converter=_memory)
    memory_swap: int | Unlimited | None = attrs.field(default=None, converter=_memory_swap)
    cpus: float | Unlimited | None = attrs.field(default=None, converter=_cpus)
    cpu_shares: int | Unlimited | None = attrs.field(default=None, converter=_cpu_shares)
    cpuset: str | None = attrs.field(default=None, converter=_cpuset)
    pids: int | Unlimited | None = attrs.field(default=None, converter=_pids)
    io: tuple[IoLimit, ...] = attrs.field(default=(), converter=_io)
    io_weight: int | Unlimited | None = attrs.field(default=None, converter=_io_weight)
    shm_size: int | Unlimited | None = attrs.field(default=None, converter=_shm_size)
    disk: int | Unlimited | None = attrs.field(default=None, converter=_disk)
    ulimits: tuple[Ulimit, ...] = attrs.field(factory=dict, converter=_ulimits)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.memory_swap, int):
            if not isinstance(self.memory, int):
                raise ConfigError("memory_swap is the sum of memory and swap: set memory too")
            if self.memory_swap < self.memory:
                raise ConfigError("memory_swap is the sum of memory and swap: below memory")
