"""The means that the other tests here attack by: a container whose plan was changed."""

from __future__ import annotations

import containerkit as ck
from containerkit.launch.ops import Code, Op
from tests.security import plans


def test_a_system_call(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    result = engine.run(
        hostile, ["/attacks/call", "1", "1", "text:hi", "2"], text=True, security=security
    )
    assert result.stdout == "hi2\n"


def test_a_plan_without_a_step(engine: ck.Engine, hostile: str) -> None:
    command = ["grep", "NoNewPrivs", "/proc/self/status"]
    assert engine.run(hostile, command, text=True).stdout.split() == ["NoNewPrivs:", "1"]
    with plans.without(Code.NO_NEW_PRIVS):
        assert engine.run(hostile, command, text=True).stdout.split() == ["NoNewPrivs:", "0"]
    assert engine.run(hostile, command, text=True).stdout.split() == ["NoNewPrivs:", "1"]


def test_an_exec_with_other_steps(engine: ck.Engine, hostile: str) -> None:
    command = ["sh", "-c", "umask"]
    with engine.start(hostile, ["sleep", "1000"]) as box:
        with plans.replaced(Code.UMASK, Op(Code.UMASK, value=(0o77, 0))):
            assert box.exec(command, text=True).stdout == "0077\n"
        assert box.exec(command, text=True).stdout == "0022\n"
