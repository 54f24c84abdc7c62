"""Limits hold: asked of the kernel outside, and of the container inside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.launch.reuse import UNCOMMON
from containerkit.model.limits import Unlimited
from containerkit.runtime import cgroups
from containerkit.state import record
from tests.integration.limits.support import (
    VERSION,
    eventually,
    groups,
    has,
    value,
    whole_disk,
)

SLEEP = ("sleep", "1000")
V2 = VERSION == "v2"


@pytest.mark.needs("control groups")
def test_processes(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, SLEEP, limits=ck.Limits(pids=7)) as container:
        assert value(container, "pids.max") == "7"
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all"
    result = engine.run(busybox, ["sh", "-c", script], limits=ck.Limits(pids=5), text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert "fork" in result.stderr


@pytest.mark.needs("control groups")
@pytest.mark.parametrize(
    ("swap", "total"),
    [(None, 128 << 20), ("64m", 64 << 20), ("96m", 96 << 20), (ck.UNLIMITED, None)],
)
def test_memory(
    engine: ck.Engine, busybox: str, swap: str | Unlimited | None, total: int | None
) -> None:
    limits = ck.Limits(memory="64m", memory_swap=swap)
    with engine.start(busybox, SLEEP, limits=limits) as container:
        assert value(container, "memory.max" if V2 else "memory.limit_in_bytes") == str(64 << 20)
        held = value(container, "memory.swap.max" if V2 else "memory.memsw.limit_in_bytes")
        if total is None:
            assert held == "max" or int(held) > 1 << 60
        else:
            assert int(held) == total - (V2 and 64 << 20)


@pytest.mark.needs("control groups")
def test_processor_time(engine: ck.Engine, busybox: str) -> None:
    """A loop is held back in every period, though others may leave it little of a processor."""
    loop = ["sh", "-c", "while :; do :; done"]
    with engine.start(busybox, loop, limits=ck.Limits(cpus=0.02)) as container:
        if V2:
            assert value(container, "cpu.max") == "2000 100000"
        else:
            assert value(container, "cpu.cfs_quota_us") == "2000"

        def held_back() -> int:
            stat = dict(line.split(" ") for line in value(container, "cpu.stat").splitlines())
            return int(stat["nr_throttled"])

        eventually(lambda: held_back() > 0, "it was never held back")
        began, used, before = time.monotonic(), cpu_seconds(container), held_back()
        eventually(lambda: held_back() > before + 10, "it was not held back again")
        share = (cpu_seconds(container) - used) / (time.monotonic() - began)
        assert share < 0.2
        assert container.stats().cpu.throttled


def cpu_seconds(container: ck.Container) -> float:
    fields = Path(f"/proc/{container.pid}/stat").read_text(encoding="ascii").split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.needs("control groups")
@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (512, 20), (262144, 10000)])
def test_processor_shares(engine: ck.Engine, busybox: str, shares: int, weight: int) -> None:
    with engine.start(busybox, SLEEP, limits=ck.Limits(cpu_shares=shares)) as container:
        if V2:
            assert value(container, "cpu.weight") == str(weight)
        else:
            assert value(container, "cpu.shares") == str(shares)


@pytest.mark.needs("control groups")
def test_processors(engine: ck.Engine, busybox: str) -> None:
    last = max(os.sched_getaffinity(0))
    limits = ck.Limits(cpuset=str(last))
    if not has("cpuset"):
        with pytest.raises(ck.MissingFeature, match="no cpuset controller"):
            engine.run(busybox, ["true"], limits=limits)
        return
    with engine.start(busybox, SLEEP, limits=limits) as container:
        assert container.pid is not None
        assert os.sched_getaffinity(container.pid) == {last}
        group = groups(container)["unified" if V2 else "cpuset"]
    eventually(lambda: not group.exists(), f"{group} is left")
    script = "grep Cpus_allowed_list /proc/self/status"
    inside = engine.run(busybox, ["sh", "-c", script], limits=limits, text=True).stdout
    assert inside.split() == ["Cpus_allowed_list:", str(last)]
    plain = engine.run(busybox, ["sh", "-c", script], text=True).stdout
    assert plain == _line("Cpus_allowed_list:")


def _line(name: str) -> str:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines(keepends=True)
    return next(line for line in lines if line.startswith(name))


@pytest.mark.needs("control groups")
def test_processors_that_are_not_there(engine: ck.Engine, busybox: str) -> None:
    """Version 1 refuses the list; version 2 takes it and gives what there is of it."""
    limits = ck.Limits(cpuset="9999")
    if V2 and has("cpuset"):
        assert engine.run(busybox, ["true"], limits=limits).exit.ok
        return
    with pytest.raises((ck.LaunchError, ck.MissingFeature)):
        engine.run(busybox, ["true"], limits=limits)
    assert engine.run(busybox, ["true"]).exit.ok


@pytest.mark.needs("control groups")
def test_block_devices(engine: ck.Engine, busybox: str) -> None:
    device = whole_disk()
    limit = ck.IoLimit(device, read_bps="1m", write_iops=50)
    with engine.start(busybox, SLEEP, limits=ck.Limits(io=limit)) as container:
        if V2:
            rates = f"{device} rbps=1048576 wbps=max riops=max wiops=50"
            assert value(container, "io.max") == rates
        else:
            assert value(container, "blkio.throttle.read_bps_device") == f"{device} 1048576"
            assert value(container, "blkio.throttle.write_iops_device") == f"{device} 50"
            assert value(container, "blkio.throttle.write_bps_device") == ""
        group = groups(container)["unified" if V2 else "blkio"]
    eventually(lambda: not group.exists(), f"{group} is left")


@pytest.mark.needs("control groups")
def test_what_is_no_block_device(engine: ck.Engine, busybox: str) -> None:
    for path in ("/dev/null", "/dev/there-is-none"):
        with pytest.raises(ck.ConfigError, match=path):
            engine.run(busybox, ["true"], limits=ck.Limits(io=ck.IoLimit(path, read_bps=1)))


@pytest.mark.needs("control groups")
def test_weight_of_block_devices(engine: ck.Engine, busybox: str) -> None:
    """Where no scheduler of a device knows weights, to ask for one is refused."""
    limits = ck.Limits(io_weight=100)
    try:
        container = engine.start(busybox, SLEEP, limits=limits)
    except ck.MissingFeature as error:
        assert "weight" in str(error)  # noqa: PT017
        return
    with container:
        file = "io.bfq.weight" if V2 else "blkio.bfq.weight"
        group = groups(container)["unified" if V2 else "blkio"]
        if (group / file).exists():
            assert value(container, file).split()[-1] == "100"
        else:
            assert value(container, "io.weight" if V2 else "blkio.weight").split()[-1] != ""


@pytest.mark.needs("control groups")
def test_only_who_asks_is_in_a_group_for_it(engine: ck.Engine, busybox: str) -> None:
    """Version 1: groups of cpuset and blkio cost a start something, so few have them."""
    with (
        engine.start(busybox, SLEEP) as plain,
        engine.start(busybox, SLEEP, limits=ck.Limits(memory="64m")) as tuned,
    ):
        for container in (plain, tuned):
            found = groups(container)
            own = {found[name].name for name in found if name not in ("cpuset", "blkio")}
            assert len(own) == 1
            for name in ("cpuset", "blkio"):
                assert found.get(name, Path("none")).name not in own


@pytest.mark.needs("control groups")
@pytest.mark.parametrize("asked", [False, True])
def test_a_launcher_of_its_own_too(engine: ck.Engine, busybox: str, asked: bool) -> None:
    """Not even an empty group, of which each makes the next one dearer."""
    last = max(os.sched_getaffinity(0))
    if asked and not has("cpuset"):
        return
    limits = ck.Limits(cpuset=str(last)) if asked else None
    one = engine.start(busybox, SLEEP, limits=limits, lifetime="detached")
    try:
        state = record.read(engine.root / "containers" / one.id)
        assert state is not None
        name = cgroups.PREFIX + state.launcher
        places = cgroups.find().tops
        assert all((places[x] / name).is_dir() == asked for x in set(UNCOMMON) & set(places))
        assert one.pid is not None
        if asked:
            assert os.sched_getaffinity(one.pid) == {last}
        one.stop(grace=0)
        one.update(limits=ck.Limits(cpuset=str(last)) if has("cpuset") else ck.Limits(pids=7))
        one.start()
        assert one.pid is not None
        assert not has("cpuset") or os.sched_getaffinity(one.pid) == {last}
    finally:
        one.remove(force=True)


def test_rlimits(engine: ck.Engine, busybox: str) -> None:
    limits = ck.Limits(ulimits={"nofile": (20, 30), "core": 0, "stack": (1 << 20, 1 << 20)})
    script = "ulimit -Sn; ulimit -Hn; ulimit -Hc; ulimit -Ss"
    result = engine.run(busybox, ["sh", "-c", script], limits=limits, text=True)
    assert result.stdout.split() == ["20", "30", "0", "1024"]


@pytest.mark.parametrize("env", [{}, {"LONG": "x" * 70_000}], ids=["parked", "cloned"])
def test_few_files_beside_many_containers(
    engine: ck.Engine, busybox: str, env: dict[str, str]
) -> None:
    """Its own limit counts its own files, however many its launcher has open.

    A plan that no packet takes is not given to a child that was there before.
    """
    with contextlib.ExitStack() as others:
        for _ in range(12):
            others.enter_context(engine.start(busybox, SLEEP))
        limits = ck.Limits(ulimits={"nofile": 12})
        for _ in range(3):
            assert engine.run(busybox, ["true"], limits=limits, env=env, workdir="/tmp").exit.ok


def test_shared_memory(engine: ck.Engine, busybox: str) -> None:
    script = "dd if=/dev/zero of=/dev/shm/x bs=64k count=3 2>&1; stat -c %s /dev/shm/x"
    limits = ck.Limits(shm_size="128k")
    result = engine.run(busybox, ["sh", "-c", script], limits=limits, text=True)
    assert "No space left" in result.stdout
    assert result.stdout.split()[-1] == str(128 << 10)


def test_disk(engine: ck.Engine, busybox: str) -> None:
    script = "dd if=/dev/zero of=/x bs=64k count=8 2>&1; stat -c %s /x"
    result = engine.run(busybox, ["sh", "-c", script], limits=ck.Limits(disk="256k"), text=True)
    assert "No space left" in result.stdout
    assert int(result.stdout.split()[-1]) <= 256 << 10


@pytest.mark.needs("control groups")
@pytest.mark.parametrize("shares", [None, 2])
def test_nothing_of_one_start_is_left_for_the_next(
    engine: ck.Engine, busybox: str, shares: int | None
) -> None:
    """Groups are used again, never with a limit of the container before.

    Not those that had a limit which is not put back, as shares are not.
    """
    tight = ck.Limits(memory="32m", cpus=0.1, cpu_shares=shares, pids=3)
    look = [
        "sh",
        "-c",
        "cd /sys/fs/cgroup && cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us",
    ]
    for _ in range(6):
        assert engine.run(busybox, ["true"], limits=tight).exit.ok
        if not V2:  # where they are used again, by what is as short
            memory, quota = map(int, engine.run(busybox, look, text=True).stdout.split())
            assert memory > 1 << 60
            assert quota == -1
        with engine.start(busybox, SLEEP) as container:
            assert value(container, "pids.max") == "2048"
            if V2:
                assert value(container, "memory.max") == "max"
                assert value(container, "cpu.max").startswith("max")
                assert value(container, "cpu.weight") == "100"
            else:
                assert int(value(container, "memory.limit_in_bytes")) > 1 << 60
                assert value(container, "cpu.cfs_quota_us") == "-1"
                assert value(container, "cpu.shares") == "1024"


@pytest.mark.skipif(V2, reason="groups are used again with those of version 1 only")
@pytest.mark.needs("control groups", "mounts")
def test_pages_that_outlive_a_container_are_not_the_nexts(
    engine: ck.Engine, busybox: str, tmp_path: Path
) -> None:
    """What it wrote to a tmpfs of the host stays charged to its group, which is used again."""
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    mounts = [ck.Mount.bind(tmp_path, "/there")]
    tight = ck.Limits(memory="8m")
    try:
        for number in range(4):
            fill = ["dd", "if=/dev/zero", f"of=/there/{number}", "bs=1M", "count=20"]
            assert engine.run(busybox, fill, mounts=mounts).exit.ok
            assert engine.run(busybox, ["true"], limits=tight).exit.ok
    finally:
        subprocess.run(["umount", tmp_path], check=True)
