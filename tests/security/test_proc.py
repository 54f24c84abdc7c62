"""What is written to /proc for a container goes to a procfs of our own, whatever lies at its /proc.

CVE-2019-16884, 2019-19921, 2025-52881: a fake /proc, or one of its files on another, takes what the
engine writes.  CVE-2022-0811: a setting that smuggles another.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ConfigError
from containerkit.launch.ops import F_CREATE, MOUNT_ATTR_NODEV, Code, Op
from containerkit.launch.plan import Plan
from tests.security import plans

SHMMAX = Path("/proc/sys/kernel/shmmax")
"""Of the reader's ipc namespace."""

FAKE = Op(
    Code.MOUNT_FS, flags=F_CREATE, arena=("tmpfs", "/proc", None), value=(MOUNT_ATTR_NODEV, 0)
)


def with_fake_proc(plan: Plan) -> Plan:
    """A tmpfs at /proc; what hides parts of the true one finds nothing there."""
    child: list[Op] = []
    for op in plan.child:
        if op.arena[:2] != ("proc", "/proc"):
            child.append(op)
        if op.arena[:2] == ("sysfs", "/sys"):
            child.append(FAKE)
    return plans.rebuilt(plan, child=child)


@pytest.mark.needs("host root")
def test_a_fake_proc_takes_nothing(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    """Neither a sysctl nor oom_score_adj is written there; both take effect.

    An ordinary user's container does not start so: where no whole procfs is, it can mount none.
    """
    import attrs

    before = SHMMAX.read_text(encoding="ascii")
    wanted = attrs.evolve(security, sysctls={"kernel.shmmax": "123456"})
    with (
        plans.changed(with_fake_proc),
        engine.start(hostile, ["sleep", "100000"], security=wanted) as box,
    ):
        where = f"/proc/{box.pid}"
        command = ["nsenter", f"--ipc={where}/ns/ipc", "cat", str(SHMMAX)]
        assert subprocess.check_output(command, text=True) == "123456\n"
        assert box.files.list("/proc") == ()
    assert SHMMAX.read_text(encoding="ascii") == before


SETTINGS = [
    ("kernel.core_pattern", "|/bin/sh"),
    ("kernel.modprobe", "/bin/sh"),
    ("kernel.hostname", "x"),
    ("vm.overcommit_memory", "1"),
    ("fs.file-max", "1"),
    ("kernel.shm/../core_pattern", "x"),
    ("kernel/core_pattern", "x"),
    ("kernel.shmmax\0", "1"),
    ("net.ipv4.../../kernel/core_pattern", "x"),
    ("net.ipv4.ip_forward=1\nkernel.core_pattern", "x"),
    ("kernel.shmmax", "1\nx"),
    ("kernel.shmmax", "1\0"),
    ("kernel.shmmax", ""),
    ("kernel.shmmax+kernel.core_pattern", "1"),
    ("", "1"),
]


def test_settings_of_the_host() -> None:
    for name, value in SETTINGS:
        with pytest.raises(ConfigError, match="sysctl"):
            ck.Security(sysctls={name: value})
            pytest.fail(repr(name))


def test_settings_of_the_hosts_network(engine: ck.Engine, hostile: str) -> None:
    security = ck.Security(sysctls={"net.ipv4.ip_forward": "1"})
    with pytest.raises(ConfigError, match="host's own"):
        engine.run(hostile, ["true"], security=security, network="host")


def test_it_shows_its_own_processes_only(
    engine: ck.Engine, hostile: str, security: ck.Security
) -> None:
    """It is mounted in the container's pid namespace: the launcher's, or the host's, are not there."""
    script = "cd /proc; ls -d [0-9]* | wc -l; tr '\\0' ' ' <1/cmdline | head -c 5"
    result = engine.run(hostile, ["sh", "-c", script], text=True, security=security)
    count, command = result.stdout.split(None, 1)
    assert int(count) < 8
    assert command.startswith("sh -c")
