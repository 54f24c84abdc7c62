"""What the preset "strict" means for options that a caller does not give."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.launch.ops import Code
from containerkit.launch.presets import STRICT, changes_of, default_user, limits_of
from containerkit.launch.request import HostFacts
from containerkit.launch.updates import merged
from containerkit.model.limits import RESOURCES, UNLIMITED, Limits
from containerkit.model.options import ContainerOptions
from containerkit.model.security import Security
from tests.unit.launch.plans import BARE, GROUP, ID, IMAGE, PASSWD, V1, V2, compiled, step, steps

SECURITY = Security.strict(userns="host")
OPTIONS: ContainerOptions = {"security": SECURITY}
V1_SWAP = attrs.evolve(
    V1,
    controllers={"pids", "memory", "cpu"},
    cgroup_files={"memory.memsw.limit_in_bytes", "cpu.cfs_quota_us"},
)
V2_SWAP = attrs.evolve(
    V2, controllers={"pids", "memory", "cpu"}, cgroup_files={"memory.swap.max", "cpu.max"}
)


def settings(options: ContainerOptions, facts: HostFacts = V1_SWAP) -> dict[str, str]:
    found = step(compiled(options, facts=facts), Code.CGROUP).arena[0]
    assert isinstance(found, tuple)
    return dict(zip(found[1::3], found[2::3], strict=True))


def test_limits_are_those_of_a_sandbox() -> None:
    half = str(512 << 20)
    assert settings(OPTIONS) == {
        "pids.max": "128",
        "memory.limit_in_bytes": half,
        "memory.memsw.limit_in_bytes": half,
        "cpu.cfs_quota_us": "100000",
    }
    assert settings(OPTIONS, V2_SWAP) == {
        "pids.max": "128",
        "memory.max": half,
        "memory.swap.max": "0",
        "cpu.max": "100000 100000",
    }
    rlimits = {op.flags: op.value for op in steps(compiled(OPTIONS, facts=V1_SWAP), Code.RLIMIT)}
    assert rlimits[RESOURCES["nofile"]] == (1024, 1024)
    assert rlimits[RESOURCES["core"]] == (0, 0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, STRICT),
        (Limits(), STRICT),
        (Limits(memory="64m"), attrs.evolve(STRICT, memory=64 << 20, memory_swap=64 << 20)),
        (
            Limits(memory="64m", memory_swap=UNLIMITED),
            attrs.evolve(STRICT, memory=64 << 20, memory_swap=UNLIMITED),
        ),
        (Limits(memory=UNLIMITED), attrs.evolve(STRICT, memory=UNLIMITED, memory_swap=None)),
        (Limits(pids=5, cpus=UNLIMITED), attrs.evolve(STRICT, pids=5, cpus=UNLIMITED)),
        (Limits(shm_size="1m"), attrs.evolve(STRICT, shm_size=1 << 20)),
    ],
)
def test_what_is_given_goes_before(given: Limits | None, expected: Limits) -> None:
    options: ContainerOptions = dict(OPTIONS) if given is None else {**OPTIONS, "limits": given}  # type: ignore[assignment]
    assert limits_of(options) == expected
    again: ContainerOptions = {**OPTIONS, "limits": limits_of(options)}
    assert limits_of(again) == expected


def test_ulimits_are_added() -> None:
    given = Limits(ulimits={"nofile": (16, 32), "nproc": 5})
    found = {
        one.name: (one.soft, one.hard) for one in limits_of({**OPTIONS, "limits": given}).ulimits
    }
    assert found == {"nofile": (16, 32), "core": (0, 0), "nproc": (5, 5)}


def test_limits_that_are_lifted_are() -> None:
    options: ContainerOptions = {**OPTIONS, "limits": UNLIMITED}
    assert settings(options) == {}


def test_what_is_without_swap_stays_so_with_other_memory() -> None:
    for memory in ("64m", "1g"):
        after = merged(STRICT, changes_of(OPTIONS, Limits(memory=memory)))
        assert after.memory_swap == after.memory
    given = Limits(memory="64m", memory_swap="128m")
    assert changes_of(OPTIONS, given) == given
    assert changes_of({}, Limits(memory="64m")) == Limits(memory="64m")


@pytest.mark.parametrize("facts", [BARE, attrs.evolve(V1_SWAP, cgroup_files={"cpu.cfs_quota_us"})])
def test_what_can_not_be_held_raises(facts: HostFacts) -> None:
    with pytest.raises(MissingFeature, match="lift it"):
        compiled(OPTIONS, facts=facts)


def test_nobody_whatever_the_image_says() -> None:
    for image in (IMAGE, attrs.evolve(IMAGE, user="0"), attrs.evolve(IMAGE, user="app")):
        plan = compiled(OPTIONS, facts=V1_SWAP, image=image)
        assert step(plan, Code.IDS).value == (65534, 65534)
        assert step(plan, Code.GROUPS).arena[0] == (65534).to_bytes(4, "little")
        assert step(plan, Code.CAPS).value == (0, 0)
    plan = compiled({**OPTIONS, "user": "app"}, facts=V1_SWAP)
    assert step(plan, Code.IDS).value == (1000, 1000)


def test_an_exec_has_the_same() -> None:
    base = ExecBase(ID, IMAGE, OPTIONS, V1_SWAP, PASSWD, GROUP)
    plan, started = exec_plan(base, ExecRequest(["true"])), compiled(OPTIONS, facts=V1_SWAP)
    for code in (Code.IDS, Code.GROUPS, Code.CAPS, Code.RLIMIT, Code.SECCOMP, Code.NO_NEW_PRIVS):
        assert steps(plan, code) == steps(started, code)
    assert step(plan, Code.IDS).value == (65534, 65534)


@pytest.mark.parametrize("network", ["host", "web", ["a"]])
def test_it_has_no_network(network: Any) -> None:
    options: ContainerOptions = {**OPTIONS, "network": network}
    with pytest.raises(ConfigError, match="strict"):
        compiled(options, facts=V1_SWAP)
    compiled({**OPTIONS, "network": "none"}, facts=V1_SWAP)


@pytest.mark.parametrize(
    ("image", "user"),
    [("", ""), (":", ""), ("app:", "app"), (":extra", "0:extra"), ("app:extra", "app:extra")],
)
def test_an_image_may_leave_out_a_side_of_the_colon(image: str, user: str) -> None:
    assert default_user({}, image) == user
