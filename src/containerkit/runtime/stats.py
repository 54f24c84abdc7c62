"""What a running container uses, read from its control groups.

Owns: which files of the two versions say what, and the reading of them.  Must not: change a group,
or start anything.  Neighbours: `groups` finds them; `top` stands in where a container has none.

A reading opens about ten files of some bytes; nothing is kept open between two, except by who
watches.  The kernel adds up what processes used that have ended, and those of execs, which run in
groups below the container's.

Spec: kernel documentation, cgroup-v1 (cpuacct, memory, pids, blkio-controller), cgroup-v2;
proc_pid_net(5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, Self

from containerkit.errors import ConfigError, refusals
from containerkit.model.stats import (
    CpuStats,
    IoStats,
    MemoryStats,
    NetworkStats,
    PidStats,
    Stats,
)
from containerkit.runtime import top
from containerkit.runtime.groups import Group, group_of, text_of
from containerkit.stdio.ending import Ending
from containerkit.stdio.waiting import Waiting, drive

_TICKS: Final = os.sysconf("SC_CLK_TCK")
# memory.limit_in_bytes without a limit: the largest multiple of a page below 2**63.
_NO_LIMIT: Final = 1 << 62


@refusals("read what the container uses")
def read_stats(pid: int) -> Stats:
    """Read what a container uses.

    Args:
        pid: of its first process, as this process sees it.  Who calls makes sure, before and
            after, that it is still that process.

    Raises:
        ProcessLookupError: there is no such process any more.
    """
    try:
        group = group_of(pid)
        network = network_of(pid)
        if not group:
            return _without_group(pid, network)
        read = _read_unified if "unified" in group else _read_v1
        found = read(group, network)
        if found.io is None:  # version 1: joining blkio costs each start, so only limits bring it
            found = found._replace(io=io_of(top.members(group) or ()))
        if found.pids is not None and found.pids.current > 1:
            strangers = top.strangers(pid, group)
            found = found._replace(
                pids=found.pids._replace(current=max(1, found.pids.current - strangers))
            )
        return found
    except FileNotFoundError as error:  # its group or its directory in /proc went meanwhile
        raise ProcessLookupError(f"process {pid} has ended") from error


# ---- version 1


def _read_v1(group: Group, network: NetworkStats | None) -> Stats:
    memory = oom = None
    if "memory" in group:
        place = group["memory"]
        memory = MemoryStats(
            current=_number(f"{place}/memory.usage_in_bytes"),
            cache=parse_flat(_required(f"{place}/memory.stat")).get("total_cache", 0),
            limit=_limit(f"{place}/memory.limit_in_bytes"),
            peak=_number(f"{place}/memory.max_usage_in_bytes"),
            swap=None,
        )
        both = _optional_number(f"{place}/memory.memsw.usage_in_bytes")
        if both is not None:
            memory = memory._replace(swap=max(0, both - memory.current))
        oom = parse_flat(text_of(f"{place}/memory.oom_control") or "").get("oom_kill", 0)
    io = None
    if "blkio" in group:
        place = f"{group['blkio']}/blkio.throttle"
        io = parse_blkio(
            text_of(f"{place}.io_service_bytes_recursive") or "",
            text_of(f"{place}.io_serviced_recursive") or "",
        )
    return Stats(
        time=datetime.now(UTC),
        cpu=_cpu_v1(group),
        cpus=None,
        memory=memory,
        pids=_pids(group.get("pids")),
        io=io,
        network=network,
        oom_kills=oom or 0,
    )


def _cpu_v1(group: Group) -> CpuStats:
    throttled = None
    if "cpu" in group:
        told = parse_flat(text_of(f"{group['cpu']}/cpu.stat") or "")
        throttled = told.get("throttled_time", 0) / 1e9
    if "cpuacct" not in group:
        return CpuStats(0.0, 0.0, 0.0, throttled)
    place = group["cpuacct"]
    parts = parse_flat(_required(f"{place}/cpuacct.stat"))
    user, system = parts.get("user", 0) / _TICKS, parts.get("system", 0) / _TICKS
    return CpuStats(user, system, _number(f"{place}/cpuacct.usage") / 1e9, throttled)


# ---- version 2


def _read_unified(group: Group, network: NetworkStats | None) -> Stats:
    place = group["unified"]
    cpu = parse_flat(_required(f"{place}/cpu.stat"))
    throttled = cpu.get("throttled_usec")
    memory = oom = None
    current = _optional_number(f"{place}/memory.current")
    if current is not None:
        memory = MemoryStats(
            current=current,
            cache=parse_flat(_required(f"{place}/memory.stat")).get("file", 0),
            limit=_limit(f"{place}/memory.max"),
            peak=_optional_number(f"{place}/memory.peak"),  # since Linux 5.19
            swap=_optional_number(f"{place}/memory.swap.current"),
        )
        oom = parse_flat(text_of(f"{place}/memory.events") or "").get("oom_kill", 0)
    io = text_of(f"{place}/io.stat")
    return Stats(
        time=datetime.now(UTC),
        cpu=CpuStats(
            cpu.get("user_usec", 0) / 1e6,
            cpu.get("system_usec", 0) / 1e6,
            cpu.get("usage_usec", 0) / 1e6,
            None if throttled is None else throttled / 1e6,
        ),
        cpus=None,
        memory=memory,
        pids=_pids(place),
        io=None if io is None else parse_io(io),
        network=network,
        oom_kills=oom or 0,
    )


# ---- neither


def _without_group(pid: int, network: NetworkStats | None) -> Stats:
    """Add up its processes; what those used that have ended is in their parents' (times(2))."""
    tasks = top.read_tasks(pid)
    cpu = sum(task.cpu for task in tasks)
    return Stats(
        time=datetime.now(UTC),
        cpu=CpuStats(cpu, 0.0, cpu),
        cpus=None,
        memory=MemoryStats(current=sum(task.rss for task in tasks), cache=0),
        pids=PidStats(sum(task.threads for task in tasks)),
        io=io_of(task.host_pid for task in tasks),
        network=network,
        oom_kills=0,
    )


def io_of(pids: Iterable[int]) -> IoStats | None:
    """Add up what processes say of themselves, and of those they have waited for (proc_pid_io(5)).

    None: this kernel does not count it, or tells only the user whose processes they are.
    """
    read = write = 0
    known = False
    for pid in pids:
        try:
            told = parse_flat((text_of(f"/proc/{pid}/io") or "").replace(":", ""))
        except PermissionError:
            continue
        known = known or "read_bytes" in told
        read += told.get("read_bytes", 0)
        write += told.get("write_bytes", 0)
    return IoStats(read, write) if known else None


# ---- network


def network_of(pid: int) -> NetworkStats | None:
    """Return what went through its interfaces; None when it has only loopback, or the host's."""
    table = text_of(f"/proc/{pid}/net/dev")
    if table is None:
        raise ProcessLookupError(f"process {pid} has ended")
    found = parse_net_dev(table)
    if found is None or os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
        return None
    return found


def parse_net_dev(table: str) -> NetworkStats | None:
    """Add up the lines of ``/proc/PID/net/dev``, loopback left out; None when there are no more."""
    sums = [0, 0, 0, 0]
    found = False
    for line in table.splitlines()[2:]:
        name, _, rest = line.rpartition(":")
        fields = rest.split()
        if name.strip() == "lo" or len(fields) < 16:
            continue
        found = True
        for index, field in enumerate((0, 8, 1, 9)):
            sums[index] += int(fields[field])
    return NetworkStats(*sums) if found else None


# ---- files


def parse_flat(text: str) -> dict[str, int]:
    """Return the pairs of a file of lines "key value"; others are left out (memory.stat …)."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal() and value.isascii():
            found[key] = int(value)
    return found


def parse_blkio(sizes: str, counts: str) -> IoStats:
    """Return the sums of two files of lines "8:0 Read 4096" (blkio-controller)."""
    read_bytes, write_bytes = _sum_blkio(sizes)
    read_ops, write_ops = _sum_blkio(counts)
    return IoStats(read_bytes, write_bytes, read_ops, write_ops)


def _sum_blkio(text: str) -> tuple[int, int]:
    read = write = 0
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[2].isdecimal() and fields[2].isascii():
            read += int(fields[2]) if fields[1] == "Read" else 0
            write += int(fields[2]) if fields[1] == "Write" else 0
    return read, write


def parse_io(text: str) -> IoStats:
    """Return the sums of lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …" (cgroup-v2, io.stat)."""
    sums = {"rbytes": 0, "wbytes": 0, "rios": 0, "wios": 0}
    for line in text.splitlines():
        for field in line.split()[1:]:
            key, _, value = field.partition("=")
            if key in sums and value.isdecimal() and value.isascii():
                sums[key] += int(value)
    return IoStats(*sums.values())


def _pids(place: str | None) -> PidStats | None:
    if place is None:
        return None
    current = _optional_number(f"{place}/pids.current")
    return None if current is None else PidStats(current, _limit(f"{place}/pids.max"))


def _limit(path: str) -> int | None:
    """Return a limit, None for none: "max", or in version 1 more than there can be."""
    text = (text_of(path) or "").strip()
    number = int(text) if text.isdecimal() else _NO_LIMIT
    return number if number < _NO_LIMIT else None


def _number(path: str) -> int:
    return int(_required(path))


def _optional_number(path: str) -> int | None:
    text = text_of(path)
    return None if text is None else int(text)


def _required(path: str) -> str:
    text = text_of(path)
    if text is None:
        raise FileNotFoundError(path)
    return text


class Watch:
    """Readings of a container at an interval, until it ends: an iterator and context manager.

    Args:
        read: takes one reading; raises ProcessLookupError when there is no such process any more.
        until_ended: waits until the container has ended, or a deadline; True when it has.
        close: called once when nobody watches any more.
        interval: seconds between two readings; the first one is taken at once.

    Raises:
        ConfigError: the interval is none.
    """

    def __init__(
        self,
        read: Callable[[], Stats],
        until_ended: Callable[[float], Waiting[bool]],
        close: Callable[[], object],
        interval: float = 1.0,
    ) -> None:
        given: object = interval
        if not isinstance(given, int | float) or not 0.001 <= interval < 1 << 31:
            close()
            raise ConfigError(f"interval {interval!r} is not a number of seconds from 0.001 on")
        self._read = read
        self._interval = interval
        self._before: Stats | None = None
        self._next = time.monotonic()
        self._until_ended = until_ended
        self._ending = Ending(close)

    def _take(self) -> Waiting[Stats | None]:
        """Wait for the time of the next reading and take it; None: the container has ended."""
        found = yield from self._ending.within(self._reading())
        return found

    def _reading(self) -> Waiting[Stats | None]:
        while not (yield from self._until_ended(self._next)):
            # Of a slow reader the readings in between are left out, not made up for.
            self._next = max(self._next + self._interval, time.monotonic())
            try:
                now = self._read()
            except ProcessLookupError:  # to be restarted, or about to be told as ended
                continue
            before, self._before = self._before, now
            return now if before is None else now.since(before)
        return None

    def __next__(self) -> Stats:
        found = drive(self._take())
        if found is None:
            self.close()
            raise StopIteration
        return found

    def __iter__(self) -> Self:
        return self

    def close(self) -> None:
        """Stop, also for who waits for the next reading; harmless when repeated."""
        self._ending.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_ending"):
            self.close()
