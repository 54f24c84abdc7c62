"""System V and POSIX objects of the host, and of another container, are not there (ipc_namespaces(7))."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

import pytest

import containerkit as ck
from containerkit.launch.ops import CLONE_NEWIPC
from containerkit.launch.plan import Plan
from tests.security import plans
from tests.security.inside import calls, outcome

KEY = 0x636B0000 + os.getpid() % 0xFFFF
CREATE = 0o1000
REMOVE = 0
LOOK = calls(("shmget", KEY, 0, 0), ("semget", KEY, 0, 0), ("msgget", KEY, 0))
MAKE = calls(
    ("shmget", KEY, 4096, CREATE | 0o666),
    ("semget", KEY, 1, CREATE | 0o666),
    ("msgget", KEY, CREATE | 0o666),
)
NOTHING = [-errno.ENOENT] * 3


@pytest.fixture
def objects() -> Iterator[None]:
    """One of each kind on the host, for everybody."""
    libc = ctypes.CDLL(None, use_errno=True)
    memory = libc.shmget(KEY, ctypes.c_size_t(4096), CREATE | 0o666)
    semaphore = libc.semget(KEY, 1, CREATE | 0o666)
    queue = libc.msgget(KEY, CREATE | 0o666)
    assert min(memory, semaphore, queue) >= 0
    yield
    libc.shmctl(memory, REMOVE, None)
    libc.semctl(semaphore, 0, REMOVE)
    libc.msgctl(queue, REMOVE, None)


def test_the_hosts(engine: ck.Engine, hostile: str, security: ck.Security, objects: None) -> None:
    assert outcome(engine.run(hostile, LOOK, text=True, security=security)) == NOTHING
    with engine.start(hostile, ["sleep", "100000"], security=security) as box:
        assert outcome(box.exec(LOOK, text=True)) == NOTHING


def test_anothers(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    with (
        engine.start(hostile, ["sleep", "100000"], security=security) as first,
        engine.start(hostile, ["sleep", "100000"], security=security) as second,
    ):
        assert min(outcome(first.exec(MAKE, text=True))) >= 0
        first.exec("echo secret >/dev/shm/canary", check=True)
        assert min(outcome(first.exec(LOOK, text=True))) >= 0
        assert outcome(second.exec(LOOK, text=True)) == NOTHING
        assert not second.exec(["cat", "/dev/shm/canary"]).exit.ok


def test_in_the_hosts_namespace(engine: ck.Engine, hostile: str, objects: None) -> None:
    """The control."""

    def share(plan: Plan) -> Plan:
        return plans.rebuilt(plan, namespaces=plan.namespaces & ~CLONE_NEWIPC)

    with plans.changed(share):
        assert min(outcome(engine.run(hostile, LOOK, text=True))) >= 0
