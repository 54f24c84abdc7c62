"""Device nodes: made in the container, or brought along, none but its own can be opened.

Runc 1.1 let containers open 10:200, and mknod gives whoever has a device's number all of what it
is.  Two defences, each tested without the other: no mount but /dev allows nodes, and the control
group (version 1: rules; version 2: a program) allows those of /dev only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest

import containerkit as ck
from containerkit.launch.devices import ALL_RULES
from containerkit.launch.ops import MOUNT_ATTR_NODEV, Code, Op
from containerkit.launch.plan import Plan
from containerkit.runtime import cgroups
from tests.conftest import missing
from tests.security import plans

# The kernel's log, which is everywhere; tun; a block device of a number that is given on demand.
MAKE = """
for number in "c 1 11" "c 10 200" "b 254 0"; do
    for place in / /dev /dev/shm /tmp /run /n; do
        rm -f $place/node
        mknod $place/node $number && tried $place/node && echo opened $number
    done
done 2>/dev/null
exit 0
"""
MOUNT = "mkdir /n && mount -t tmpfs none /n || exit 7\n"
OPEN = "tried /volume/log && echo opened; exit 0"
# For writing: reading the kernel's log takes a right.
TRIED = "tried() { dd if=/dev/null of=$1 count=0 conv=notrunc; }\n"

ABLE = ck.Security(capabilities=["+MKNOD", "+SYS_ADMIN"], seccomp="unconfined")
"""Who can make nodes, and mounts that allow them."""


def got(
    engine: ck.Engine,
    image: str,
    security: ck.Security,
    script: str = MAKE,
    mounts: Sequence[ck.Mount] = (),
) -> set[str]:
    """Run an attack; return what it opened."""
    command = ["sh", "-c", TRIED + script]
    result = engine.run(image, command, text=True, security=security, mounts=mounts)
    assert result.exit.code == 0, result
    return set(result.stdout.splitlines())


@pytest.fixture
def lax(engine_root: Path, hostile: str) -> Iterator[ck.Engine]:
    """An engine whose launcher's group allows all devices."""
    with ck.Engine.open(engine_root) as engine:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(cgroups, "DEFAULT_RULES", ALL_RULES)
            engine.run(hostile, ["true"], check=True)  # from now on it has its launcher
        yield engine


def test_nodes_made_inside(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    assert got(engine, hostile, security) == set()


def test_nodes_made_with_the_right_to(engine: ck.Engine, hostile: str, lax: ck.Engine) -> None:
    """Neither without rules: no mount allows to open them."""
    security = ck.Security(capabilities=["+MKNOD"], seccomp="unconfined")
    assert got(engine, hostile, security) == set()
    assert got(lax, hostile, security) == set()


@pytest.mark.needs("device nodes")
def test_rules_hold_on_any_mount(engine: ck.Engine, hostile: str, lax: ck.Engine) -> None:
    """Who can mount what allows nodes has only the control group against it."""
    assert got(engine, hostile, ABLE, MOUNT + MAKE) == set()
    assert "opened c 1 11" in got(lax, hostile, ABLE, MOUNT + MAKE)  # the control


@pytest.mark.needs("device nodes")
def test_rules_hold_in_an_exec(engine: ck.Engine, hostile: str, lax: ck.Engine) -> None:
    for one, opened in (engine, False), (lax, True):
        with one.start(hostile, ["sleep", "1000"], security=ABLE) as box:
            result = box.exec(["sh", "-c", TRIED + MOUNT + MAKE], text=True, check=True)
            assert ("opened c 1 11" in result.stdout) is opened


@pytest.mark.needs("device nodes")
def test_rules_hold_beside_a_device_that_was_given(engine: ck.Engine, hostile: str) -> None:
    """More is that device and nothing else; given, it is opened by any node of its number."""
    security = attrs.evolve(ABLE, devices=("/dev/full:/dev/x",))
    assert got(engine, hostile, security, MOUNT + MAKE) == set()
    security = attrs.evolve(ABLE, devices=("/dev/kmsg:/dev/x",))
    assert got(engine, hostile, security, MOUNT + MAKE) == {"opened c 1 11"}


# ---- nodes that are there


@pytest.fixture
def volume(tmp_path: Path) -> ck.Mount:
    """A directory of the host with a node in it."""
    reason = missing("device nodes")
    if reason:
        pytest.skip(reason)
    os.mknod(tmp_path / "log", stat.S_IFCHR | 0o666, os.makedev(1, 11))
    return ck.Mount.bind(tmp_path, "/volume")


def with_nodes(plan: Plan) -> Plan:
    """The same plan, its binds allowing nodes."""
    allowed = [
        Op(op.code, flags=op.flags, fd=op.fd, value=(op.value[0] & ~MOUNT_ATTR_NODEV, 0))
        if op.code == Code.CLONE
        else op
        for op in plan.prepare
    ]
    return plans.rebuilt(plan, prepare=allowed)


def test_nodes_in_a_volume(
    engine: ck.Engine, hostile: str, security: ck.Security, volume: ck.Mount
) -> None:
    assert got(engine, hostile, security, OPEN, mounts=[volume]) == set()


def test_each_defence_is_enough(
    engine: ck.Engine, hostile: str, lax: ck.Engine, volume: ck.Mount
) -> None:
    def opened(one: ck.Engine) -> set[str]:
        return got(one, hostile, ck.Security(), OPEN, mounts=[volume])

    assert opened(lax) == set()
    with plans.changed(with_nodes):
        assert opened(engine) == set()
        assert opened(lax) == {"opened"}  # the control
