"""Control groups are no way out: CVE-2022-0492 (release_agent), CVE-2023-25809 (a writable hierarchy)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.launch.ops import CLONE_NEWCGROUP
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
    """No hierarchy is mounted; its own group looks like the top one."""
    with engine.start(hostile, ["sleep", "100000"], security=security) as box:
        said = box.exec("cat /proc/self/cgroup /proc/1/cgroup", text=True).stdout.splitlines()
        assert all(":/" in line and "containerkit" not in line for line in said)
        paths = {line.split(":", 2)[2] for line in said}
        assert all(path == "/" or path.startswith("/x") for path in paths), paths
        assert "cgroup" not in box.exec(["cat", "/proc/mounts"], text=True).stdout
        assert box.exec("ls /sys/fs/cgroup | wc -l", text=True).stdout.strip() == "0"


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
