"""What the kernel counts once for the whole host, and no limit of a container's: terminals, events of
aio, reserved large pages.

Who takes all of it takes it from every other container, and from the host's programs.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

import containerkit as ck
from containerkit.launch.defaults import TERMINALS
from containerkit.launch.ops import Code, Op
from containerkit.launch.plan import Plan
from tests.security import plans
from tests.security.inside import calls, outcome, room

FILES = TERMINALS + 100
"""Descriptors that the attack may have: in the control it must not have all terminals of the host."""


def attack(engine: ck.Engine, hostile: str, security: ck.Security | None = None) -> tuple[int, int]:
    """Return how many terminals a container had, and what ended it."""
    limits = ck.Limits(ulimits={"nofile": FILES})
    with engine.start(
        hostile, ["/attacks/terminals"], security=security, limits=limits, ready=ck.Ready(log="end")
    ) as box:
        found = re.search(r"(\d+) (\d+) end", box.log_text())
        assert found is not None
        assert engine.run(hostile, ["tty"], tty=True, text=True).stdout.strip() == "/dev/pts/0"
    return int(found[1]), int(found[2])


def test_terminals(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    assert attack(engine, hostile, security) == (TERMINALS, errno.ENOSPC)


def test_terminals_without_a_limit(engine: ck.Engine, hostile: str) -> None:
    """The control; more descriptors, and it would have those of all others."""

    def unlimited(plan: Plan) -> Plan:
        return plans.rebuilt(plan, child=[_unlimited(op) for op in plan.child])

    with plans.changed(unlimited):
        count, error = attack(engine, hostile)
    assert count > TERMINALS
    assert error == errno.EMFILE


def _unlimited(op: Op) -> Op:
    if op.code != Code.MOUNT_FS or op.arena[0] != "devpts":
        return op
    kind, target, options = op.arena
    assert isinstance(options, tuple)
    kept = tuple(option for option in options if not option.startswith("max="))
    return Op(op.code, flags=op.flags, arena=(kind, target, kept), value=op.value)


CONTEXTS = calls(("io_setup", 1, room(8)))
PAGES = calls(
    ("mmap", 0, 1 << 21, 0, 0x40022, -1, 0),
    ("memfd_create", b"x\0", 4),
    ("shmget", 0, 1 << 21, 0o4600),
)


def test_what_no_limit_counts_is_not_for_strict(engine: ck.Engine, hostile: str) -> None:
    security = ck.Security(seccomp="strict")
    for attempt in (CONTEXTS, PAGES):
        found = outcome(engine.run(hostile, attempt, security=security, text=True))
        assert set(found) == {-errno.EPERM}


def test_the_control(engine: ck.Engine, hostile: str) -> None:
    """Whether there are large pages or not."""
    if Path("/proc/sys/fs/aio-max-nr").exists():
        assert outcome(engine.run(hostile, CONTEXTS, text=True)) == [0]
    assert -errno.EPERM not in outcome(engine.run(hostile, PAGES, text=True))[:2]
