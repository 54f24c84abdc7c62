"""A program finds its limits where programs look for them: in /sys/fs/cgroup."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import containerkit as ck
from tests.integration.limits.support import VERSION

V2 = VERSION == "v2"
MEMORY = "/sys/fs/cgroup/memory.max" if V2 else "/sys/fs/cgroup/memory/memory.limit_in_bytes"
PIDS = "/sys/fs/cgroup/pids.max" if V2 else "/sys/fs/cgroup/pids/pids.max"
LIMITS = ck.Limits(memory="512m", pids=99)

pytestmark = pytest.mark.needs("control groups")

SECURITY = {
    "default": ck.Security(),
    "strict": ck.Security.strict(),
    "own ids": ck.Security(userns="auto"),
}


@pytest.mark.parametrize("kind", SECURITY)
def test_its_limits(engine: ck.Engine, busybox: str, kind: str) -> None:
    """In its first process, after a restart, and in an exec; changed ones too."""
    look, security = ["cat", MEMORY, PIDS], SECURITY[kind]
    expected = f"{512 << 20}\n99\n"
    assert engine.run(busybox, look, limits=LIMITS, security=security, text=True).stdout == expected
    with engine.start(busybox, ["sleep", "1000"], limits=LIMITS, security=security) as box:
        assert box.exec(look, text=True).stdout == expected
        box.update(limits=ck.Limits(pids=98))
        assert box.exec(["cat", PIDS], text=True).stdout == "98\n"
        box.restart()
        assert box.exec(look, text=True).stdout == f"{512 << 20}\n98\n"


def test_the_next_one_has_its_own(engine: ck.Engine, busybox: str) -> None:
    """Though the group may be one that another had before, and the child was there already."""
    for number in (50, 60, 70):
        run = engine.run(busybox, ["cat", PIDS], limits=ck.Limits(pids=number), text=True)
        assert run.stdout == f"{number}\n"


def test_the_hosts_may_be_given(engine: ck.Engine, busybox: str, tmp_path: Path) -> None:
    """As any other directory: it is there instead."""
    (tmp_path / "seen").touch()
    mounts = [ck.Mount.bind(tmp_path, "/sys/fs/cgroup", read_only=True)]
    assert (
        engine.run(busybox, ["ls", "/sys/fs/cgroup"], mounts=mounts, text=True).stdout == "seen\n"
    )


@pytest.mark.skipif(not shutil.which("node"), reason="needs the program node")
def test_node(engine: ck.Engine) -> None:
    command = ["node", "-p", "process.constrainedMemory()"]
    run = engine.run(None, command, limits=ck.Limits(memory="512m"), text=True)
    assert run.stdout == f"{512 << 20}\n"
