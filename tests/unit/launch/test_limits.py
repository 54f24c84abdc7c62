"""Limits as files of control groups."""

from __future__ import annotations

import attrs
import pytest

from containerkit.errors import MissingFeature
from containerkit.launch.limits import DEFAULT_PIDS, cgroup_settings
from containerkit.launch.request import HostFacts
from containerkit.model.limits import UNLIMITED, Limits
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
            {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "134217728"},
        ),
        (
            Limits(pids=UNLIMITED, memory="64m", memory_swap=UNLIMITED),
            {"memory.limit_in_bytes": "67108864"},
        ),
        (
            Limits(pids=UNLIMITED, memory="64m", memory_swap="96m"),
            {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "100663296"},
        ),
        (Limits(pids=UNLIMITED, cpus=1.5), {"cpu.cfs_quota_us": "150000"}),
        (Limits(pids=UNLIMITED, cpuset="0-3,7"), {"cpuset.cpus": "0-3,7"}),
        (Limits(pids=UNLIMITED, cpu_shares=2), {"cpu.shares": "2"}),
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
    ],
)
def test_version_2(limits: Limits, expected: dict[str, str]) -> None:
    assert settings(limits, V2) == expected


@pytest.mark.parametrize(
    "limits", [Limits(pids=5), Limits(memory="64m"), Limits(cpus=1), Limits(cpuset="0")]
)
def test_what_is_asked_for_holds_or_raises(limits: Limits) -> None:
    with pytest.raises(MissingFeature):
        cgroup_settings(limits, BARE, [])


def test_a_default_that_can_not_hold_is_noted() -> None:
    notes: list[str] = []
    assert cgroup_settings(Limits(), BARE, notes) == ()
    assert len(notes) == 1
