"""The means that the other tests here attack by: a container whose plan was changed."""

from __future__ import annotations

import errno

import containerkit as ck
from containerkit.launch.ops import Code, Op
from tests.security import plans
from tests.security.inside import LAST, calls


def test_a_system_call(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    command = calls(("dup", 1), ("write", LAST, b"hi", 2), ("close", 1000))
    result = engine.run(hostile, command, text=True, security=security)
    assert result.stdout.replace("hi", "") == f"3\n2\n{-errno.EBADF}\n"


def test_a_plan_without_a_step(engine: ck.Engine, hostile: str) -> None:
    command = ["grep", "NoNewPrivs", "/proc/self/status"]
    assert engine.run(hostile, command, text=True).stdout.split() == ["NoNewPrivs:", "1"]
    with plans.unfiltered(Code.NO_NEW_PRIVS):  # which needs it
        assert engine.run(hostile, command, text=True).stdout.split() == ["NoNewPrivs:", "0"]
    assert engine.run(hostile, command, text=True).stdout.split() == ["NoNewPrivs:", "1"]


def test_an_exec_with_other_steps(engine: ck.Engine, hostile: str) -> None:
    command = ["sh", "-c", "umask"]
    with engine.start(hostile, ["sleep", "1000"]) as box:
        with plans.replaced(Code.UMASK, Op(Code.UMASK, value=(0o77, 0))):
            assert box.exec(command, text=True).stdout == "0077\n"
        assert box.exec(command, text=True).stdout == "0022\n"
