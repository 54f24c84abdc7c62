"""No process outside is a target: of signals, of ptrace, of pidfds (pid_namespaces(7))."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator

import pytest

import containerkit as ck
from tests.integration.exec.look import launcher_of
from tests.security.inside import calls, outcome

KILL, STOP = 9, 19
SEIZE, ATTACH = 0x4206, 16
PIECE = bytes(8) + b"\x08" + bytes(7)
"""A struct iovec of 8 bytes at 0."""


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host, of the user that containers run as."""
    with subprocess.Popen(["sleep", "100000"]) as process:
        yield process
        process.kill()


def reaching(*pids: int) -> list[str]:
    """All ways to a process by its number, and to all there are."""
    wanted: list[tuple[str | int | bytes, ...]] = []
    for pid in pids:
        wanted += [
            ("kill", pid, 0),
            ("tgkill", pid, pid, 0),
            ("rt_sigqueueinfo", pid, 0, bytes(128)),
            ("pidfd_open", pid, 0),
            ("ptrace", SEIZE, pid, 0, 0),
            ("ptrace", ATTACH, pid, 0, 0),
            ("process_vm_readv", pid, PIECE, 1, PIECE, 1, 0),
            ("prlimit64", pid, 7, 0, bytes(16)),
            ("sched_setaffinity", pid, 8, b"\1" + bytes(7)),
            ("setpriority", 0, pid, 19),
            ("getpgid", pid),
        ]
    return calls(*wanted)


REFUSED = {-errno.ESRCH, -errno.EPERM, -errno.ENOSYS, -errno.EINVAL}


def test_processes_of_the_host(
    engine: ck.Engine, hostile: str, security: ck.Security, victim: subprocess.Popen[bytes]
) -> None:
    """By their numbers: of another process, of this one, of the launcher; none is in the container."""
    numbers = (victim.pid, os.getpid(), launcher_of(engine).pid)
    attack = reaching(*numbers)
    assert set(outcome(engine.run(hostile, attack, security=security))) <= REFUSED
    with engine.start(hostile, ["sleep", "100000"], security=security) as box:
        assert set(outcome(box.exec(attack))) <= REFUSED
        assert set(outcome(box.exec(attack, tty=True))) <= REFUSED


def test_everybody_and_the_parent(
    engine: ck.Engine, hostile: str, security: ck.Security, victim: subprocess.Popen[bytes]
) -> None:
    """Of all that it may kill none is outside; who started it has no number."""
    with (
        engine.start(hostile, ["sleep", "100000"], security=security) as other,
        engine.start(hostile, ["sleep", "100000"], security=security) as box,
    ):
        assert outcome(box.exec(calls(("getppid",)))) == [0]
        for pid in (-1, 0, -2):
            box.exec(calls(("kill", pid, KILL)))
        assert other.status == "running"
        assert other.exec(["true"]).exit.ok
        assert engine.run(hostile, ["true"], security=security).exit.ok
    assert victim.poll() is None


def test_a_process_outside_of_containers_reaches_it(
    attacks: object, victim: subprocess.Popen[bytes]
) -> None:
    """The control: the same calls, in the host's namespace."""
    command = [f"{attacks}/call", *reaching(victim.pid)[1:]]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = [int(word) for word in done.stdout.split()]
    assert found[:2] == [0, 0]
    assert found[3] > 0
    assert found[-1] > 0
