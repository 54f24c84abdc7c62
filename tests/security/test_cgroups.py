"""Control groups are no way out: CVE-2022-0492 (release_agent), CVE-2023-25809 (a writable hierarchy)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.launch.ops import CLONE_NEWCGROUP
from containerkit.model.security import DEFAULT_CAPABILITIES
from containerkit.runtime import cgroups
from tests.security.inside import calls, outcome

PLACE = f"/dev/shm/ck-test-groups-{os.getpid()}".encode()
NEW_USER, NEW_MOUNT = 0x10000000, 0x00020000
WRITE = 1


def mounting(kind: bytes, options: bytes, *, unshare: int = 0) -> list[str]:
    """Mount a hierarchy, in namespaces of its own if asked, and open what the kernel executes."""
    first = [("unshare", unshare)] if unshare else []
    return calls(
        ("mkdirat", -100, PLACE, 0o700),
        *first,
        ("mount", b"none", PLACE, kind, 0, options),
        ("openat", -100, PLACE + b"/release_agent", WRITE),
        ("openat", -100, PLACE + b"/cgroup.procs", WRITE),
    )


WAYS = [
    mounting(kind, options, unshare=unshare)
    for kind, options in ((b"cgroup", b"pids"), (b"cgroup", b"none,name=mine"), (b"cgroup2", b""))
    for unshare in (0, NEW_USER | NEW_MOUNT, NEW_USER | NEW_MOUNT | CLONE_NEWCGROUP)
]


def agent(found: list[int]) -> int:
    return found[-2]


def test_release_agent(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    """Also without a filter of system calls, and as root of a user namespace made inside."""
    unfiltered = ck.Security(seccomp="unconfined")
    for chosen in (security, unfiltered):
        for way in WAYS:
            found = outcome(engine.run(hostile, way, security=chosen))
            assert agent(found) < 0, (way, found)


def test_groups_of_others(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    """Its own group looks like the top one, of whatever is mounted, and nothing can be written."""
    with engine.start(hostile, ["sleep", "100000"], security=security) as box:
        said = box.exec("cat /proc/self/cgroup /proc/1/cgroup", text=True).stdout.splitlines()
        assert all(":/" in line and "containerkit" not in line for line in said)
        paths = {line.split(":", 2)[2] for line in said}
        assert all(path == "/" or path.startswith("/x") for path in paths), paths
        mounts = [
            line.split()
            for line in box.exec(["cat", "/proc/self/mountinfo"], text=True).stdout.splitlines()
            if " /sys/fs/cgroup" in line
        ]
        assert all("ro" in fields[5].split(",") for fields in mounts)
        roots = {fields[3] for fields in mounts if fields[fields.index("-") + 1] != "tmpfs"}
        assert roots <= {"/", "/cpuset.cpus"}
        seen = box.exec("find /sys/fs/cgroup -type d -name '*[0-9]*'", text=True).stdout.split()
        # an exec's own
        assert all(path.rpartition("/")[2].startswith("x") for path in seen), seen
        tasks = "cat $(find /sys/fs/cgroup -name cgroup.procs) /dev/null"
        assert {int(pid) for pid in box.exec(tasks, text=True).stdout.split()} <= {*range(40)}


@pytest.mark.needs("host root")
def test_who_may_mount(engine: ck.Engine, hostile: str) -> None:
    """CVE-2022-0492: with CAP_SYS_ADMIN what is shown can be made writable, and leads nowhere.

    The control is the same look from the host.
    """
    if cgroups.find().version not in {"v1", "hybrid"}:
        pytest.skip("needs control groups of version 1")
    admin = ck.Security.default(capabilities=[*DEFAULT_CAPABILITIES, "SYS_ADMIN"])
    script = """
        cd /sys/fs/cgroup/memory && mount -o remount,bind,rw . && echo 1 >notify_on_release
        cat notify_on_release
        mount -o remount,memory,release_agent=/evil none . && echo remounted
        mkdir /tmp/m && mount -t cgroup -o memory,release_agent=/evil none /tmp/m
        find /sys/fs/cgroup /tmp/m -name release_agent
    """
    result = engine.run(hostile, ["sh", "-c", script], security=admin, text=True)
    assert result.stdout == "1\n", result.stderr
    agents = [path / "release_agent" for path in cgroups.find().tops.values()]
    assert any(agent.exists() for agent in agents)
    assert not any("evil" in agent.read_text() for agent in agents if agent.exists())


@pytest.mark.needs("mounts")
def test_on_the_host(attacks: Path) -> None:
    """The control: the same calls, by root of the host, in a mount namespace of its own."""
    if cgroups.find().version not in {"v1", "hybrid"}:
        pytest.skip("needs control groups of version 1")
    way = mounting(b"cgroup", b"pids")
    words = ["unshare", "--mount", "--propagation", "private", str(attacks / "call"), *way[1:]]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        os.rmdir(PLACE)
    assert agent([int(word) for word in done.stdout.split()]) >= 0
