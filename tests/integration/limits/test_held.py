"""What a limit does to what runs under it; version 2, which has it of every kind, above all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import containerkit as ck
from tests.integration.limits.support import VERSION, eventually, groups, value

pytestmark = pytest.mark.needs("control groups")

MIB = 1 << 20
HOLD = "import time; x = bytearray(b'x') * ({} << 20); print('held', flush=True); time.sleep(1000)"
LOOP = ["sh", "-c", "while :; do :; done"]


def hold(mib: int) -> list[str]:
    """Return a command that fills so much memory, says so, and keeps it."""
    return [sys.executable, "-c", HOLD.format(mib)]


@pytest.mark.needs("cgroup2", "swap")
def test_what_memory_does_not_hold_is_swapped(engine: ck.Engine) -> None:
    """And no more of it than the sum of both allows; without any, it is out of memory."""
    limits = ck.Limits(memory="32m", memory_swap="96m")
    ready = ck.Ready(log="held")
    with engine.start(None, hold(48), limits=limits, ready=ready) as box:
        memory = box.stats().memory
        assert memory is not None
        assert memory.swap is not None
        assert memory.swap >= 16 * MIB
        assert memory.current <= 32 * MIB == memory.limit
        assert memory.peak is not None
        assert memory.current <= memory.peak <= 40 * MIB
    for limit in (ck.Limits(memory="32m", memory_swap="32m"), ck.Limits(memory="16m")):
        ended = engine.run(None, hold(48), limits=limit).exit
        assert ended == ck.Exit.by_signal(9, cause="oom")


def test_what_was_killed_for_memory_is_counted(engine: ck.Engine, busybox: str) -> None:
    """One process, not all of its group: the rest goes on."""
    script = "tail /dev/zero; echo over; sleep 1000"
    limits = ck.Limits(memory="16m", memory_swap="16m")
    ready = ck.Ready(log="over")
    with engine.start(busybox, ["sh", "-c", script], limits=limits, ready=ready) as box:
        found = box.stats()
        assert found.oom_kills == 1
        assert found.memory is not None
        assert found.memory.peak is not None
        assert found.memory.peak > 12 * MIB
        assert box.exec(["true"]).exit.ok
        assert box.status == "running"


def test_shares_divide_a_processor(engine: ck.Engine, busybox: str) -> None:
    """Two loops on one processor: what they get is as their shares, also when those change."""
    with (
        engine.start(busybox, LOOP, limits=ck.Limits(cpu_shares=8192)) as much,
        engine.start(busybox, LOOP, limits=ck.Limits(cpu_shares=128)) as little,
    ):
        for one in (much, little):
            assert one.pid is not None
            os.sched_setaffinity(one.pid, {min(os.sched_getaffinity(0))})
        assert_more(much, little)
        much.update(limits=ck.Limits(cpu_shares=128))
        little.update(limits=ck.Limits(cpu_shares=8192))
        if VERSION == "v2":
            assert [value(one, "cpu.weight") for one in (much, little)] == ["5", "313"]
        assert_more(little, much)


def assert_more(one: ck.Container, other: ck.Container) -> None:
    """Let both use a second of processor time; one gets most of it."""
    before = [used(one), used(other)]

    def since() -> list[float]:
        return [used(one) - before[0], used(other) - before[1]]

    eventually(lambda: sum(since()) >= 1, "they do not run")
    got, left = since()
    assert got > 4 * left


def used(container: ck.Container) -> float:
    return container.stats().cpu.total


WRITE = """
import mmap, os, time
block = mmap.mmap(-1, 1 << 17)
file = os.open("/written", os.O_CREAT | os.O_WRONLY | os.O_DIRECT | os.O_SYNC)
began = time.monotonic()
for _ in range(16):
    os.write(file, block)
print(time.monotonic() - began)
"""


@pytest.mark.needs("cgroup2", "block device")
def test_writes_to_a_device_take_their_time(engine: ck.Engine) -> None:
    """2 MiB at 1 MiB a second: not below a second, however fast the device."""
    device = os.stat(engine.root).st_dev
    disk = f"{os.major(device)}:{os.minor(device)}"
    with engine.start(None, ["sleep", "1000"]) as box:
        before = box.stats().io
        box.update(limits=ck.Limits(io=ck.IoLimit(disk, write_bps="1m")))
        done = box.exec([sys.executable, "-c", WRITE], text=True, check=True)
        assert float(done.stdout) > 1
        after = box.stats().io
        assert before is not None
        assert after is not None
        assert after.write_bytes - before.write_bytes >= 2 * MIB
        assert after.write_ops > before.write_ops
        box.update(limits=ck.Limits(io=ck.IoLimit(disk, write_bps="1g")))
        assert "wbps=1073741824" in value(box, "io.max")


@pytest.mark.needs("cgroup2")
def test_a_kill_of_its_group_by_somebody_else(engine: ck.Engine, busybox: str) -> None:
    """As systemd and others end a group: all of it at once, and our launcher tells it."""
    with engine.start(busybox, ["sleep", "1000"]) as box, box.popen(["sleep", "1000"]) as process:
        (groups(box)["unified"] / "cgroup.kill").write_text("1")
        assert process.wait(timeout=60).signal == 9
        assert box.wait(timeout=60) == ck.Exit.by_signal(9)
    assert engine.run(busybox, ["true"]).exit.ok


@pytest.mark.needs("cgroup2")
def test_a_freeze_by_somebody_else_holds_up_no_end(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as box:
        group = groups(box)["unified"]
        (group / "cgroup.freeze").write_text("1")
        eventually(lambda: "frozen 1" in Path(group, "cgroup.events").read_text(), "not frozen")
        box.kill()
        assert box.wait(timeout=60).signal == 9
