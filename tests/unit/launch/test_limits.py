"""Limits as files of control groups."""

from __future__ import annotations

import attrs
import pytest

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.capabilities import mask_of
from containerkit.launch.limits import DEFAULT_PIDS, cgroup_settings
from containerkit.launch.request import HostFacts
from containerkit.launch.updates import changed_settings, merged, update_settings
from containerkit.model.limits import UNLIMITED, IoLimit, Limits, Unlimited
from tests.unit.launch.plans import BARE, V1, V2


def settings(limits: Limits, facts: HostFacts) -> dict[str, str]:
    """The settings by file."""
    row = cgroup_settings(limits, facts, [])
    assert all(file.startswith(f"{name}.") for name, file in zip(row[::3], row[1::3], strict=True))
    return dict(zip(row[1::3], row[2::3], strict=True))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), {"pids.max": str(DEFAULT_PIDS)}),
        (Limits(pids=UNLIMITED), {}),
        (Limits(pids=5), {"pids.max": "5"}),
        (
            Limits(pids=UNLIMITED, memory="64m"),
            {
                "memory.limit_in_bytes": "67108864",
                "memory.memsw.limit_in_bytes": "134217728",
                "memory.kmem.tcp.limit_in_bytes": "67108864",
            },
        ),
        (
            Limits(pids=UNLIMITED, memory="64m", memory_swap=UNLIMITED),
            {"memory.limit_in_bytes": "67108864", "memory.kmem.tcp.limit_in_bytes": "67108864"},
        ),
        (
            Limits(pids=UNLIMITED, memory="64m", memory_swap="96m"),
            {
                "memory.limit_in_bytes": "67108864",
                "memory.memsw.limit_in_bytes": "100663296",
                "memory.kmem.tcp.limit_in_bytes": "67108864",
            },
        ),
        (Limits(pids=UNLIMITED, cpus=1.5), {"cpu.cfs_quota_us": "150000"}),
        (Limits(pids=UNLIMITED, cpuset="0-3,7"), {"cpuset.cpus": "0-3,7"}),
        (Limits(pids=UNLIMITED, cpu_shares=2), {"cpu.shares": "2"}),
        (
            Limits(pids=UNLIMITED, io=IoLimit("8:0", read_bps="1m", write_iops=7)),
            {
                "blkio.throttle.read_bps_device": "8:0 1048576",
                "blkio.throttle.write_iops_device": "8:0 7",
            },
        ),
        (Limits(pids=UNLIMITED, io_weight=100), {"blkio.bfq.weight": "100"}),
    ],
)
def test_version_1(limits: Limits, expected: dict[str, str]) -> None:
    assert settings(limits, V1) == expected
    assert settings(limits, attrs.evolve(V1, cgroup="hybrid")) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), {"pids.max": str(DEFAULT_PIDS)}),
        (
            Limits(pids=UNLIMITED, memory="64m", memory_swap="64m"),
            {"memory.max": "67108864", "memory.swap.max": "0"},
        ),
        (Limits(pids=UNLIMITED, cpus=0.01), {"cpu.max": "1000 100000"}),
        (Limits(pids=UNLIMITED, cpu_shares=2), {"cpu.weight": "1"}),
        (Limits(pids=UNLIMITED, cpu_shares=1024), {"cpu.weight": "39"}),
        (Limits(pids=UNLIMITED, cpu_shares=262144), {"cpu.weight": "10000"}),
        (Limits(pids=UNLIMITED, cpuset="0-3,7"), {"cpuset.cpus": "0-3,7"}),
        (
            Limits(pids=UNLIMITED, io=IoLimit("8:0", read_bps="1m", write_iops=7)),
            {"io.max": "8:0 rbps=1048576 wbps=max riops=max wiops=7"},
        ),
        (Limits(pids=UNLIMITED, io_weight=100), {"io.bfq.weight": "100"}),
    ],
)
def test_version_2(limits: Limits, expected: dict[str, str]) -> None:
    assert settings(limits, V2) == expected


@pytest.mark.parametrize(
    "limits",
    [
        Limits(pids=5),
        Limits(memory="64m"),
        Limits(cpus=1),
        Limits(cpuset="0"),
        Limits(io=IoLimit("8:0", read_bps=1)),
        Limits(io_weight=10),
    ],
)
def test_what_is_asked_for_holds_or_raises(limits: Limits) -> None:
    with pytest.raises(MissingFeature):
        cgroup_settings(limits, BARE, [])


@pytest.mark.parametrize(
    "limits",
    [
        Limits(memory="64m", memory_swap="64m"),
        Limits(cpus=1),
        Limits(io=IoLimit("8:0", write_bps=1)),
        Limits(io_weight=10),
    ],
)
@pytest.mark.parametrize("facts", [V1, V2])
def test_files_that_a_kernel_may_lack(limits: Limits, facts: HostFacts) -> None:
    """The controller is there, the file is not: asked for, it raises; by default it is left out."""
    plain = attrs.evolve(facts, cgroup_files=())
    with pytest.raises(MissingFeature, match="this kernel"):
        cgroup_settings(limits, plain, [])
    assert len(settings(Limits(pids=UNLIMITED, memory="64m"), plain)) == 1


def test_weights_without_bfq() -> None:
    """Docker's range onto that of version 2, as runc does it."""
    facts = attrs.evolve(V2, cgroup_files=("io.weight",))
    for given, expected in ((10, "1"), (500, "4950"), (1000, "10000")):
        assert settings(Limits(pids=UNLIMITED, io_weight=given), facts) == {"io.weight": expected}


def test_devices_by_path() -> None:
    limits = Limits(pids=UNLIMITED, io=IoLimit("/dev/sda", read_bps=1))
    row = cgroup_settings(limits, V1, [], {"/dev/sda": "8:0"})
    assert row == ("blkio", "blkio.throttle.read_bps_device", "8:0 1")
    with pytest.raises(ConfigError, match="/dev/sda"):
        cgroup_settings(limits, V1, [])


def test_rlimits_above_the_callers_own() -> None:
    facts = attrs.evolve(V1, capabilities=V1.capabilities & ~mask_of(("SYS_RESOURCE",)))
    limits = Limits(ulimits={"nofile": 20001})
    assert cgroup_settings(limits, V1, [])
    with pytest.raises(MissingFeature, match=r"nofile.*20000"):
        cgroup_settings(limits, facts, [])
    assert cgroup_settings(Limits(ulimits={"nofile": 20000, "core": UNLIMITED}), facts, [])


# ---- updates


def changes(old: Limits, new: Limits, facts: HostFacts) -> list[str]:
    """What an update writes, in its order, as "file value"."""
    row = update_settings(old, merged(old, new), facts)
    return [f"{file} {value}" for file, value in zip(row[1::3], row[2::3], strict=True)]


def test_an_update_writes_what_changes() -> None:
    old = Limits(memory="64m", pids=7, cpu_shares=100, io=IoLimit("8:0", read_bps=1))
    assert changes(old, Limits(), V1) == []
    assert changes(old, Limits(pids=7), V1) == []
    assert changes(old, Limits(pids=8), V1) == ["pids.max 8"]
    assert changes(old, Limits(cpus=0.5), V2) == ["cpu.max 50000 100000"]
    assert changes(old, Limits(cpuset="1"), V2) == ["cpuset.cpus 1"]


@pytest.mark.parametrize("old", ["64m/64m", "64m/128m", "96m/128m", "512m/1g", "none", "64m/-"])
@pytest.mark.parametrize("new", ["64m/64m", "32m/48m", "128m/256m", "1g/1g", "none", "64m/-"])
def test_memory_never_goes_above_the_sum(old: str, new: str) -> None:
    """The kernel refuses a moment at which memory is above memory and swap (version 1)."""
    before, after = limits_of_memory(old), limits_of_memory(new)
    row = update_settings(before, after, V1)
    held = memory_of(before)
    for file, value in zip(row[1::3], row[2::3], strict=True):
        if file not in held:
            continue
        held[file] = float("inf") if value == "-1" else int(value)
        memory, total = held.values()
        assert memory <= total
    assert held == memory_of(after)


def limits_of_memory(text: str) -> Limits:
    if text == "none":
        return Limits()
    memory, _, total = text.partition("/")
    return Limits(memory=memory, memory_swap=UNLIMITED if total == "-" else total)


def memory_of(limits: Limits) -> dict[str, float]:
    return {
        "memory.limit_in_bytes": value(limits.memory),
        "memory.memsw.limit_in_bytes": value(limits.memory_swap),
    }


def value(limit: int | Unlimited | None) -> float:
    return limit if isinstance(limit, int) else float("inf")


def test_lifted_by_an_update() -> None:
    old = Limits(memory="64m", memory_swap="64m", pids=7, cpus=1, cpu_shares=2, io_weight=10)
    new = Limits(
        memory=UNLIMITED, pids=UNLIMITED, cpus=UNLIMITED, cpu_shares=UNLIMITED, io_weight=UNLIMITED
    )
    assert set(changes(old, new, V1)) == {
        "pids.max max",
        "memory.limit_in_bytes -1",
        "memory.memsw.limit_in_bytes -1",
        "memory.kmem.tcp.limit_in_bytes -1",
        "cpu.cfs_quota_us -1",
        "cpu.shares 1024",
        "blkio.bfq.weight 100",
    }
    assert set(changes(old, new, V2)) == {
        "pids.max max",
        "memory.max max",
        "memory.swap.max max",
        "cpu.max max 100000",
        "cpu.weight 100",
        "io.bfq.weight 100",
    }


def test_devices_are_updated_one_by_one() -> None:
    old = Limits(io=[IoLimit("8:0", read_bps=1, write_bps=2), IoLimit("8:16", read_iops=3)])
    new = Limits(io=IoLimit("8:0", read_bps=5))
    assert changes(old, new, V1) == [
        "blkio.throttle.write_bps_device 8:0 0",
        "blkio.throttle.read_bps_device 8:0 5",
    ]
    assert changes(old, new, V2) == ["io.max 8:0 rbps=5 wbps=max riops=max wiops=max"]
    assert changes(old, Limits(io=IoLimit("8:0")), V2) == [
        "io.max 8:0 rbps=max wbps=max riops=max wiops=max"
    ]


@pytest.mark.parametrize(
    "new", [Limits(shm_size="1m"), Limits(disk="1m"), Limits(ulimits={"core": 0})]
)
def test_what_is_set_at_the_start_only(new: Limits) -> None:
    with pytest.raises(MissingFeature, match="of a running container"):
        update_settings(Limits(), merged(Limits(), new), V1)


def test_groups_that_it_is_not_in() -> None:
    """Version 1: a container is in a group of these only if it had such a limit, or can be given one."""
    for new in (Limits(cpuset="0"), Limits(io_weight=10), Limits(io=IoLimit("8:0", read_bps=1))):
        with pytest.raises(MissingFeature, match="cannot begin"):
            update_settings(Limits(), new, V1)
        assert update_settings(Limits(), new, V1, groups={"cpuset", "blkio"})
        assert update_settings(Limits(), new, V2)
        assert changed_settings(new, Limits(), V2)
    assert not changed_settings(Limits(cpuset="0"), Limits(), V1)
    assert update_settings(Limits(cpuset="1"), Limits(cpuset="0"), V1)


def test_an_update_keeps_the_rest() -> None:
    old = Limits(memory="64m", memory_swap="128m", cpus=2, ulimits={"core": 0, "nofile": 9})
    new = merged(old, Limits(memory="32m", pids=5, ulimits={"core": 1}))
    assert new == attrs.evolve(old, memory="32m", pids=5, ulimits={"core": 1, "nofile": 9})
    assert merged(old, Limits(memory=UNLIMITED)).memory_swap is None
    with pytest.raises(ConfigError, match="below memory"):
        merged(old, Limits(memory="256m"))


def test_a_default_that_can_not_hold_is_noted() -> None:
    notes: list[str] = []
    assert cgroup_settings(Limits(), BARE, notes) == ()
    assert len(notes) == 1
