"""What a container uses now, and which processes it has.

Owns the values `Stats` and `Task`.  Must not read anything; `runtime.stats` and `runtime.top` do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple


class CpuStats(NamedTuple):
    """Processor time since the container started.

    Attributes:
        user: seconds in programs.
        system: seconds in the kernel.
        total: seconds, both together; may be more exact than their sum.
        throttled: seconds it was kept from running by its own limit; None where nobody counts.
    """

    user: float
    system: float
    total: float
    throttled: float | None = None


class MemoryStats(NamedTuple):
    """Memory, in bytes.

    Attributes:
        current: in use, the page cache of its files included.
        cache: of that, the page cache, which the kernel takes back when it needs it.
        limit: None: no limit of its own.
        peak: the most it ever used; None where the kernel does not keep it.
        swap: swapped out; None where nobody counts.
    """

    current: int
    cache: int
    limit: int | None = None
    peak: int | None = None
    swap: int | None = None

    @property
    def working(self) -> int:
        """In use without the page cache: what `docker stats` shows."""
        return max(0, self.current - self.cache)


class PidStats(NamedTuple):
    """Processes and threads; ``limit`` None: no limit of its own."""

    current: int
    limit: int | None = None


class IoStats(NamedTuple):
    """What went to and came from block devices.

    Where no control group counts it, it is the sum of the processes that there are and those they
    have waited for, of bytes alone.
    """

    read_bytes: int
    write_bytes: int
    read_ops: int = 0
    write_ops: int = 0


class NetworkStats(NamedTuple):
    """What went through the interfaces of its own network, loopback left out."""

    received_bytes: int
    sent_bytes: int
    received_packets: int
    sent_packets: int


class Stats(NamedTuple):
    """One reading of what a running container uses.

    Attributes:
        time: when it was read, UTC.
        cpu: processor time.
        cpus: processors used on average since the reading before, as 1.5; None in a first one.
        memory: None where no control group counts it.
        pids: processes and threads.
        io: None where the kernel does not count it, or does not tell an ordinary user of processes
            with other ids.
        network: None without a network of its own.
        oom_kills: processes that the kernel killed for want of memory.
    """

    time: datetime
    cpu: CpuStats
    cpus: float | None
    memory: MemoryStats | None
    pids: PidStats | None
    io: IoStats | None
    network: NetworkStats | None
    oom_kills: int

    @property
    def cpu_percent(self) -> float | None:
        """`cpus` in per cent of one processor."""
        return None if self.cpus is None else 100.0 * self.cpus

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``json.dumps`` takes it; the time as ISO 8601."""
        from containerkit.model.plain import plain

        made: dict[str, Any] = plain(self)
        return made

    def _repr_html_(self) -> str:
        from containerkit.model import html
        from containerkit.model.usage import size_text

        def of(limit: int | None) -> str:
            return "" if limit is None else f" of {size_text(limit)}"

        rows: list[tuple[str, object]] = [
            ("time", self.time),
            ("processor time", f"{self.cpu.total:.3f} s"),
            ("processors used", None if self.cpus is None else f"{self.cpus:.2f}"),
        ]
        if (memory := self.memory) is not None:
            rows.append(("memory", f"{size_text(memory.working)}{of(memory.limit)}"))
            rows.append(("page cache", size_text(memory.cache)))
        if (pids := self.pids) is not None:
            most = "" if pids.limit is None else f" of {pids.limit:,}"
            rows.append(("processes and threads", f"{pids.current:,}{most}"))
        if (io := self.io) is not None:
            rows.append(("read", size_text(io.read_bytes)))
            rows.append(("written", size_text(io.write_bytes)))
        if (net := self.network) is not None:
            rows.append(("received", size_text(net.received_bytes)))
            rows.append(("sent", size_text(net.sent_bytes)))
        rows.append(("killed for want of memory", self.oom_kills))
        return html.facts(rows)

    def since(self, earlier: Stats) -> Stats:
        """Return the same with `cpus` counted from an earlier reading of the same run."""
        seconds = (self.time - earlier.time).total_seconds()
        if seconds <= 0:
            return self
        return self._replace(cpus=max(0.0, self.cpu.total - earlier.cpu.total) / seconds)


class Task(NamedTuple):
    """One process of a container.

    Attributes:
        pid: its id inside the container.
        host_pid: its id as this process sees it.
        parent: id of its parent inside; 0: the parent is outside.
        user: by name in the container's own /etc/passwd, else the number.
        uid: effective user id, as this process sees it.
        cpu: seconds of processor time.
        rss: bytes of memory it has resident.
        state: the letter of ps(1): "R", "S", "D", "Z", "T", …
        threads: how many.
        started: when, UTC.
        command: its words; of a kernel-named process, its name in brackets.
    """

    pid: int
    host_pid: int
    parent: int
    user: str
    uid: int
    cpu: float
    rss: int
    state: str
    threads: int
    started: datetime
    command: tuple[str, ...]
