"""Files of control groups, of both versions, as kernels write them; recorded texts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containerkit.model.stats import CpuStats, IoStats, MemoryStats, NetworkStats, PidStats, Stats
from containerkit.runtime import groups, stats
from containerkit.stdio.waiting import Waiting, until_readable

TICKS = os.sysconf("SC_CLK_TCK")

V1 = {
    "cpuacct.usage": "4359554\n",
    "cpuacct.stat": f"user {2 * TICKS}\nsystem {TICKS // 2}\n",
    "cpu.stat": "nr_periods 10\nnr_throttled 3\nthrottled_time 1500000000\n",
    "memory.usage_in_bytes": "466944\n",
    "memory.max_usage_in_bytes": "524288\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.memsw.usage_in_bytes": "470000\n",
    "memory.stat": "cache 0\nrss 1\ntotal_cache 28672\ntotal_rss 438272\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "pids.current": "3\n",
    "pids.max": "2048\n",
    "blkio.throttle.io_service_bytes_recursive": (
        "8:0 Read 4096\n8:0 Write 512\n8:0 Sync 0\n8:0 Async 4608\n8:0 Discard 0\n8:0 Total 4608\n"
        "8:16 Read 4\n8:16 Write 1\nTotal 4613\n"
    ),
    "blkio.throttle.io_serviced_recursive": "8:0 Read 2\n8:0 Write 1\n8:0 Total 3\nTotal 3\n",
}

V2 = {
    "cpu.stat": (
        "usage_usec 4500000\nuser_usec 3000000\nsystem_usec 1500000\n"
        "nr_periods 0\nnr_throttled 0\nthrottled_usec 250000\n"
    ),
    "memory.current": "1048576\n",
    "memory.max": "67108864\n",
    "memory.peak": "2097152\n",
    "memory.swap.current": "0\n",
    "memory.stat": "anon 500000\nfile 401408\nkernel 8192\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n",
    "pids.current": "5\n",
    "pids.max": "max\n",
    "io.stat": (
        "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"
        "7:3\n254:0 rbytes=1 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n"
    ),
}


def lay_out(place: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (place / name).write_text(text, encoding="ascii")
    return str(place)


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is taken for the group of this process."""
    found: dict[str, str] = {}
    monkeypatch.setattr(stats, "group_of", lambda _pid: found)
    monkeypatch.setattr(stats, "network_of", lambda _pid: None)
    return found


V1_CONTROLLERS = ("cpuacct", "cpu", "memory", "pids", "blkio")


def test_version_1(tmp_path: Path, group: dict[str, str]) -> None:
    group |= dict.fromkeys(V1_CONTROLLERS, lay_out(tmp_path, V1))
    found = stats.read_stats(os.getpid())
    assert found == Stats(
        time=found.time,
        cpu=CpuStats(user=2.0, system=0.5, total=0.004359554, throttled=1.5),
        cpus=None,
        memory=MemoryStats(current=466944, cache=28672, limit=None, peak=524288, swap=3056),
        pids=PidStats(3, 2048),
        io=IoStats(4100, 513, 2, 1),
        network=None,
        oom_kills=2,
    )


def test_version_1_with_the_controllers_of_a_poor_host(
    tmp_path: Path, group: dict[str, str]
) -> None:
    group["pids"] = lay_out(tmp_path, V1)
    found = stats.read_stats(os.getpid())
    assert found.pids == PidStats(3, 2048)
    assert (found.memory, found.io, found.cpu.total) == (None, None, 0.0)


def test_version_1_without_swap_accounting(tmp_path: Path, group: dict[str, str]) -> None:
    files = {name: text for name, text in V1.items() if "memsw" not in name}
    files["memory.limit_in_bytes"] = "67108864\n"
    group["memory"] = lay_out(tmp_path, files)
    memory = stats.read_stats(os.getpid()).memory
    assert memory is not None
    assert (memory.swap, memory.limit) == (None, 64 << 20)


def test_version_2(tmp_path: Path, group: dict[str, str]) -> None:
    group["unified"] = lay_out(tmp_path, V2)
    found = stats.read_stats(os.getpid())
    assert found == Stats(
        time=found.time,
        cpu=CpuStats(user=3.0, system=1.5, total=4.5, throttled=0.25),
        cpus=None,
        memory=MemoryStats(current=1 << 20, cache=401408, limit=64 << 20, peak=2 << 20, swap=0),
        pids=PidStats(5, None),
        io=IoStats(4097, 8192, 2, 2),
        network=None,
        oom_kills=1,
    )


def test_version_2_without_controllers(tmp_path: Path, group: dict[str, str]) -> None:
    group["unified"] = lay_out(tmp_path, {"cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 0\n"})
    found = stats.read_stats(os.getpid())
    assert (found.memory, found.pids, found.io, found.oom_kills) == (None, None, None, 0)
    assert found.cpu == CpuStats(1e-6, 0.0, 1e-6, None)


def test_a_group_that_goes_meanwhile(tmp_path: Path, group: dict[str, str]) -> None:
    group["unified"] = str(tmp_path / "gone")
    with pytest.raises(ProcessLookupError):
        stats.read_stats(os.getpid())


NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
    lo: 9999 99 0 0 0 0 0 0 9999 99 0 0 0 0 0 0
  eth0: 1500 10 0 0 0 0 0 0 700 7 0 0 0 0 0 0
  eth1:5 1 0 0 0 0 0 0 6 2 0 0 0 0 0 0
"""


def test_interfaces_are_added_up_without_loopback() -> None:
    assert stats.parse_net_dev(NET_DEV) == NetworkStats(1505, 706, 11, 9)
    only_loopback = "".join(NET_DEV.splitlines(keepends=True)[:3])
    assert not stats.parse_net_dev(only_loopback)


OWN = "containerkit-0123456789abcdef01234567/4"
MOUNTS = {"memory": ("/", "/cg/memory"), "cpu": ("/job", "/cg/cpu"), "": ("/", "/cg/unified")}


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        (f"4:memory:/a/{OWN}\n0::/\n", {"memory": f"/cg/memory/a/{OWN}"}),
        (f"1:cpu,cpuacct:/job/{OWN}\n", {"cpu": f"/cg/cpu/{OWN}"}),
        (f"1:cpu:/elsewhere/{OWN}\n", {}),
        (f"0::/{OWN}\n", {"unified": f"/cg/unified/{OWN}"}),
        (f"4:memory:/{OWN}\n0::/{OWN}\n", {"memory": f"/cg/memory/{OWN}"}),
        ("4:memory:/user.slice\n0::/\n", {}),
        ("", {}),
    ],
)
def test_where_a_containers_groups_are(cgroup: str, expected: dict[str, str]) -> None:
    assert groups.parse(cgroup, MOUNTS) == expected


def test_a_process_of_no_container_has_no_group() -> None:
    assert not groups.group_of(os.getpid())
    with pytest.raises(ProcessLookupError):
        groups.group_of(1 << 30)


class Source:
    """Readings by the dozen, and a pipe whose end is the container's."""

    def __init__(self) -> None:
        self.fds = os.pipe()
        self.cpu = 0.0
        self.closed = 0

    def read(self) -> Stats:
        from datetime import UTC, datetime

        if self.cpu == 3.0:
            os.close(self.fds[1])
            raise ProcessLookupError
        self.cpu += 1.0
        cpu = CpuStats(self.cpu, 0.0, self.cpu)
        return Stats(datetime.now(UTC), cpu, None, None, None, None, None, 0)

    def until_ended(self, moment: float) -> Waiting[bool]:
        return until_readable(self.fds[0], moment)

    def watch(self, interval: float) -> stats.Watch:
        return stats.Watch(self.read, self.until_ended, self.close, interval)

    def close(self) -> None:
        self.closed += 1
        os.close(self.fds[0])


def test_watching_ends_with_the_process() -> None:
    source = Source()
    with source.watch(0.001) as watch:
        readings = list(watch)
    assert [reading.cpu.total for reading in readings] == [1.0, 2.0, 3.0]
    assert not readings[0].cpus
    assert readings[1].cpus
    assert source.closed == 1


def test_watching_ends_at_once_however_long_the_interval() -> None:
    source = Source()
    watch = source.watch(3600)
    next(watch)
    os.close(source.fds[1])
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(watch)
    watch.close()
    assert source.closed == 1


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), "1"])
def test_an_interval_that_is_none(interval: float) -> None:
    source = Source()
    with pytest.raises(ValueError, match="interval"):
        source.watch(interval)
    assert source.closed == 1
    os.close(source.fds[1])
