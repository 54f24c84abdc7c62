"""What a container sees, and what it does not: asked from inside."""

from __future__ import annotations

import os

import pytest

import containerkit as ck
from tests.support import leaks


def sh(engine: ck.Engine, image: str, script: str, user: str | None = None) -> str:
    return engine.run(image, ["sh", "-c", script], text=True, user=user).stdout


def status(engine: ck.Engine, image: str, user: str | None = None) -> dict[str, str]:
    """Return /proc/self/status of a process inside."""
    text = sh(engine, image, "cat /proc/self/status", user)
    return {name: value.strip() for name, _, value in (s.partition(":") for s in text.splitlines())}


def test_namespaces_are_its_own(engine: ck.Engine, busybox: str) -> None:
    names = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    script = f"for name in {' '.join(names)}; do readlink /proc/self/ns/$name; done"
    inside = sh(engine, busybox, script)
    outside = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    assert len(inside.split()) == len(names)
    assert not set(inside.split()) & set(outside)


def test_it_sees_only_its_own_processes(engine: ck.Engine, busybox: str) -> None:
    assert sh(engine, busybox, "echo $$; cd /proc; echo [0-9]*").split()[:2] == ["1", "1"]


def test_rights_are_dockers_without_mknod(engine: ck.Engine, busybox: str) -> None:
    found = status(engine, busybox)
    docker, mknod = 0xA80425FB, 1 << 27
    wanted = docker & ~mknod
    for line in ("CapPrm", "CapEff", "CapBnd"):
        assert int(found[line], 16) & ~wanted == 0
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16)
    assert {int(found["CapInh"], 16), int(found["CapAmb"], 16)} == {0}
    assert found["NoNewPrivs"] == "1"


@pytest.mark.needs("ids")
def test_a_user_has_no_rights(engine: ck.Engine, busybox: str) -> None:
    found = status(engine, busybox, user="app")
    assert {int(found[line], 16) for line in ("CapPrm", "CapEff", "CapAmb", "CapInh")} == {0}


def test_no_descriptor_of_the_caller_is_open(engine: ck.Engine, busybox: str) -> None:
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        assert sh(engine, busybox, "ls /proc/self/fd").split() == ["0", "1", "2", "3"]
    finally:
        os.close(leaked)


def test_mounts(engine: ck.Engine, busybox: str) -> None:
    lines = [line.split() for line in sh(engine, busybox, "cat /proc/self/mounts").splitlines()]
    by_target = {target: (kind, options.split(",")) for _, target, kind, options, *_ in lines}
    assert by_target["/"][0] == "overlay"
    assert by_target["/proc"][0] == "proc"
    assert "ro" in by_target["/sys"][1]
    assert "ro" in by_target["/dev"][1]
    for target, (kind, options) in by_target.items():
        devices = target == "/dev" or target.startswith("/dev/pts") or target in NODES
        assert devices or "nodev" in options, (target, kind, options)
    assert "/store" not in by_target


NODES = (
    *(f"/proc/{name}" for name in ("kcore", "keys", "timer_list", "latency_stats")),
    *(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")),
)
"""What is hidden by a node; and the host's own nodes, for who may not make any."""


def test_the_mount_table_of_the_host_stays(engine: ck.Engine, busybox: str) -> None:
    before = set(leaks.mounts())
    with engine.start(busybox, ["sleep", "1000"]):
        assert not set(leaks.mounts()) - before


@pytest.mark.parametrize(
    "script",
    [
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "cat /proc/kcore | grep -q .",
        "ls /sys/firmware/* | grep -q .",
        "mknod /tmp/null c 1 3",
        "touch /dev/new",
        "touch /sys/fs/new",
        "mount -t tmpfs tmpfs /mnt",
        "mount -o remount,rw /sys",
        "chroot /proc/1/root/../../.. ls /store",
        "ls /.old /oldroot /store",
        "hostname other",
        "cat /dev/mem",
    ],
)
def test_what_is_refused_inside(engine: ck.Engine, busybox: str, script: str) -> None:
    result = engine.run(busybox, ["sh", "-c", script], text=True)
    assert not result.exit.ok, result


def test_devices(engine: ck.Engine, busybox: str) -> None:
    names = sh(engine, busybox, "ls /dev").split()
    assert {"null", "zero", "full", "random", "urandom", "tty", "fd", "shm", "pts"} <= set(names)
    assert not {"mem", "kmsg", "sda", "vda", "kvm", "fuse"} & set(names)
    script = (
        "echo x > /dev/null; head -c 8 /dev/urandom | wc -c; echo x > /dev/shm/f && cat /dev/shm/f"
    )
    assert sh(engine, busybox, script).split() == ["8", "x"]


def test_limits_of_the_caller_are_kept(engine: ck.Engine, busybox: str) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert sh(engine, busybox, "ulimit -n; ulimit -Hn").split() == [str(soft), str(hard)]


@pytest.mark.needs("control groups")
def test_processes_are_limited(engine: ck.Engine, busybox: str) -> None:
    """A fork bomb ends at the default limit, where the host has a pids controller."""
    script = "i=0; while [ $i -lt 3000 ]; do sleep 1000 & i=$((i+1)); done; echo all"
    result = engine.run(busybox, ["sh", "-c", script], text=True)
    assert "all" not in result.stdout
