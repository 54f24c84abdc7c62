"""Limits of a container that runs, grown and shrunk; of one that does not, for its next start."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime import updating
from containerkit.runtime.records import Records
from tests.integration.limits.support import (
    VERSION,
    eventually,
    groups,
    has,
    value,
    whole_disk,
)

pytestmark = pytest.mark.needs("control groups")

SLEEP = ("sleep", "1000")
V2 = VERSION == "v2"
MEMORY = "memory.max" if V2 else "memory.limit_in_bytes"
TOTAL = "memory.swap.max" if V2 else "memory.memsw.limit_in_bytes"
MIB = 1 << 20


def memory_of(container: ck.Container) -> tuple[int, int]:
    """Return memory, and memory and swap together, in MiB."""
    memory, total = int(value(container, MEMORY)), int(value(container, TOTAL))
    return memory // MIB, (total + (memory if V2 else 0)) // MIB


def processes_of(container: ck.Container) -> list[int]:
    """Return all that run in it, and what makes its execs."""
    group = groups(container)["unified" if V2 else "pids"]
    files = [group / "cgroup.procs", *group.glob("*/cgroup.procs")]
    return [int(pid) for file in files for pid in file.read_text(encoding="ascii").split()]


def test_memory_shrinks_and_grows(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, SLEEP, limits=ck.Limits(memory="64m")) as container:
        assert memory_of(container) == (64, 128)
        for memory, swap, expected in (
            ("32m", None, (32, 64)),
            ("512m", None, (512, 1024)),
            ("512m", "512m", (512, 512)),
            ("1g", "2g", (1024, 2048)),
            ("16m", "16m", (16, 16)),
        ):
            container.update(limits=ck.Limits(memory=memory, memory_swap=swap))
            assert memory_of(container) == expected
        with pytest.raises(ck.ConfigError, match="below memory"):
            container.update(limits=ck.Limits(memory="32m"))
        container.update(limits=ck.Limits(memory=ck.UNLIMITED))
        assert value(container, MEMORY) == "max" or int(value(container, MEMORY)) > 1 << 60


def test_a_limit_begins_while_it_runs(engine: ck.Engine, busybox: str) -> None:
    """It had none; from then on the kernel holds it, and its death by it is told."""
    eat = ["sh", "-c", "read -r _ </ready; exec tail /dev/zero"]
    with engine.start(busybox, ["sh", "-c", 'mkfifo /ready; exec "$@"', "sh", *eat]) as container:
        container.update(limits=ck.Limits(memory="16m", memory_swap="16m", pids=9, cpus=0.5))
        assert value(container, "pids.max") == "9"
        quota = value(container, "cpu.max" if V2 else "cpu.cfs_quota_us").split()[0]
        assert quota == "50000"
        Path(f"/proc/{container.pid}/root/ready").write_text("\n", encoding="ascii")
        assert container.wait(timeout=120).cause == "oom"


def test_limits_are_lifted(engine: ck.Engine, busybox: str) -> None:
    limits = ck.Limits(pids=7, cpus=0.5, cpu_shares=10)
    with engine.start(busybox, SLEEP, limits=limits) as container:
        lifted = ck.Limits(pids=ck.UNLIMITED, cpus=ck.UNLIMITED, cpu_shares=ck.UNLIMITED)
        container.update(limits=lifted)
        assert value(container, "pids.max") == "max"
        if V2:
            assert value(container, "cpu.max").split()[0] == "max"
            assert value(container, "cpu.weight") == "100"
        else:
            assert value(container, "cpu.cfs_quota_us") == "-1"
            assert value(container, "cpu.shares") == "1024"


def test_rates_of_devices(engine: ck.Engine, busybox: str) -> None:
    device = whole_disk()
    limits = ck.Limits(io=ck.IoLimit(device, read_bps="1m"))
    with engine.start(busybox, SLEEP, limits=limits) as container:
        container.update(limits=ck.Limits(io=ck.IoLimit(device, write_bps="2m")))
        if V2:
            rates = f"{device} rbps=max wbps=2097152 riops=max wiops=max"
            assert value(container, "io.max") == rates
        else:
            assert value(container, "blkio.throttle.read_bps_device") == ""
            assert value(container, "blkio.throttle.write_bps_device") == f"{device} 2097152"
    with engine.start(busybox, SLEEP) as container:
        container.update(limits=limits)
        file = "io.max" if V2 else "blkio.throttle.read_bps_device"
        assert value(container, file).startswith(device)
    one = engine.start(busybox, SLEEP, lifetime="detached")
    try:
        if V2:
            one.update(limits=limits)
        else:
            with pytest.raises(ck.MissingFeature, match="cannot begin to limit blkio"):
                one.update(limits=limits)
    finally:
        one.remove(force=True)


def test_processors_of_what_runs_already(engine: ck.Engine, busybox: str) -> None:
    """All of it is moved, what an exec has begun too; and so is what is started later."""
    if not has("cpuset"):
        refused = pytest.raises(ck.MissingFeature, match="no cpuset controller")
        with engine.start(busybox, SLEEP) as container, refused:
            container.update(limits=ck.Limits(cpuset="0"))
        return
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    script = "sleep 1000 & exec sleep 1000"
    with (
        engine.start(busybox, ["sh", "-c", script], limits=ck.Limits(pids=9)) as container,
        container.popen(["sh", "-c", script]),
    ):
        eventually(lambda: len(processes_of(container)) == 5, "all are there")
        with pytest.raises(ck.HostError, match="cpuset"):
            container.update(limits=ck.Limits(pids=8, cpuset="9999"))
        assert value(container, "pids.max") == "9"
        for only in (last, first):
            container.update(limits=ck.Limits(cpuset=str(only)))
            assert {frozenset(os.sched_getaffinity(pid)) for pid in processes_of(container)} == {
                frozenset((only,))
            }
            shown = container.exec(["grep", "Cpus_allowed_list", "/proc/self/status"], text=True)
            assert shown.stdout.split()[1] == str(only)
        container.restart(grace=0)
        assert container.pid is not None
        assert os.sched_getaffinity(container.pid) == {first}


def test_processors_that_can_not_be_kept(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = os.sched_getaffinity(0)
    limits = ck.Limits(cpuset=str(max(every))) if has("cpuset") else ck.Limits(pids=5)
    with engine.start(busybox, SLEEP) as container:
        assert container.pid is not None
        with monkeypatch.context() as patch:
            patch.setattr(Records, "configure", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                container.update(limits=limits)
        assert value(container, "pids.max") == "2048"
        assert os.sched_getaffinity(container.pid) == every


def test_they_hold_for_later_starts_too(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, SLEEP, limits=ck.Limits(pids=7, shm_size="1m")) as container:
        with pytest.raises(ck.MissingFeature, match="shm_size"):
            container.update(limits=ck.Limits(shm_size="2m", pids=8))
        assert value(container, "pids.max") == "7"
        container.update(limits=ck.Limits(pids=8))
        container.stop(grace=0)
        container.update(limits=ck.Limits(shm_size="2m"))
        container.start()
        assert value(container, "pids.max") == "8"
        mounts = Path(f"/proc/{container.pid}/mounts").read_text(encoding="utf-8")
        shm = next(line for line in mounts.splitlines() if line.split()[1] == "/dev/shm")
        assert "size=2048k" in shm


def test_they_stay_when_its_policy_starts_it_again(engine: ck.Engine, busybox: str) -> None:
    script = "rm -f /go; mkfifo /go; read -r _ </go; exit 1"
    container = engine.start(busybox, ["sh", "-c", script], lifetime="detached", restart="always")
    try:
        container.update(limits=ck.Limits(pids=9))
        fifo = Path(f"/proc/{container.pid}/root/go")
        eventually(fifo.exists, "it does not read")
        fifo.write_text("\n", encoding="ascii")
        eventually(lambda: container.restarts > 0 and container.pid is not None, "no restart")
        assert value(container, "pids.max") == "9"
    finally:
        container.remove(force=True)


def test_before_the_first_start(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, SLEEP) as container:
        container.update(limits=ck.Limits(pids=5))
        container.start()
        assert value(container, "pids.max") == "5"


def test_by_another_engine(engine: ck.Engine, shared_root: Path, busybox: str) -> None:
    with engine.start(busybox, SLEEP) as container, ck.Engine.open(shared_root) as other:
        other.containers.get(container.id).update(limits=ck.Limits(pids=5))
        assert value(container, "pids.max") == "5"


def test_what_the_kernel_refuses_changes_nothing(engine: ck.Engine, busybox: str) -> None:
    """All of an update holds, or none of it."""
    first = ck.Limits(cpuset="0", pids=7) if has("cpuset") else ck.Limits(pids=7)
    with engine.start(busybox, SLEEP, limits=first) as container:
        if V2 and has("cpuset"):
            container.update(limits=ck.Limits(pids=8, cpuset="0"))
            return
        with pytest.raises(ck.HostError, match="cpuset"):
            container.update(limits=ck.Limits(pids=8, cpuset="9999"))
        assert value(container, "pids.max") == "7"
        container.stop(grace=0)
        container.start()
        assert value(container, "pids.max") == "7"


def test_what_can_not_be_kept_is_taken_back(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt, or a full disk, between the kernel and the catalog."""
    with engine.start(busybox, SLEEP, limits=ck.Limits(memory="64m")) as container:
        with monkeypatch.context() as patch:
            patch.setattr(Records, "configure", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                container.update(limits=ck.Limits(memory="96m", memory_swap="96m"))
        assert memory_of(container) == (64, 128)
        container.update(limits=ck.Limits(memory="32m"))
        assert memory_of(container) == (32, 64)


def test_limits_that_nobody_wrote_down(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was killed in an update leaves the kernel with others than the catalog has."""
    with engine.start(busybox, SLEEP, limits=ck.Limits(memory="16m")) as container:
        with monkeypatch.context() as patch:
            patch.setattr(Records, "configure", lambda *_: None)
            container.update(limits=ck.Limits(memory="96m", memory_swap="96m"))
        container.update(limits=ck.Limits(memory="24m"))
        assert memory_of(container) == (24, 48)


def test_who_was_killed_between_two_writes(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next update, of anything, ends with what the catalog has."""
    cpu, weight = ("cpu.max", "cpu.weight") if V2 else ("cpu.cfs_quota_us", "cpu.shares")
    with engine.start(busybox, SLEEP, limits=ck.Limits(memory="64m")) as container:
        fresh = value(container, cpu), value(container, weight)
        with monkeypatch.context() as patch:
            patch.setattr(Records, "configure", lambda *_: None)
            container.update(limits=ck.Limits(cpus=0.5, cpu_shares=10, memory="16m"))
        assert value(container, cpu) != fresh[0]
        container.update(limits=ck.Limits(pids=9))
        assert (value(container, cpu), value(container, weight)) == fresh
        assert (memory_of(container), value(container, "pids.max")) == ((64, 128), "9")


def test_an_interrupt_between_two_writes(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.start(busybox, SLEEP, limits=ck.Limits(memory="64m", pids=7)) as container:
        with monkeypatch.context() as patch:
            patch.setattr(updating, "_write_file", _interrupted_at("pids.max"))
            with pytest.raises(KeyboardInterrupt):
                container.update(limits=ck.Limits(memory="32m", pids=8))
        assert (memory_of(container), value(container, "pids.max")) == ((64, 128), "7")


def _interrupted_at(file: str) -> Callable[[Sequence[str], str, str], None]:
    """Return what writes as ever, but for an interrupt after the first time that it writes a file."""
    write, left = updating._write_file, [file]

    def interrupted(places: Sequence[str], file: str, value: str) -> None:
        write(places, file, value)
        if file in left:
            left.remove(file)
            raise KeyboardInterrupt

    return interrupted


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_of_one_that_was_removed(engine: ck.Engine, busybox: str) -> None:
    container = engine.start(busybox, SLEEP)
    container.remove(force=True)
    with pytest.raises(ck.InvalidStatus):
        container.update(limits=ck.Limits(pids=8))
