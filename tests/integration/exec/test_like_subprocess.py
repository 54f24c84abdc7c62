"""Calls that people write who know `subprocess`."""

from __future__ import annotations

from typing import assert_type

import pytest

import containerkit as ck
from containerkit import Engine, aio


def test_times_are_taken_by_position(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as one:
        with one.popen(["cat"]) as process:
            with pytest.raises(ck.Timeout):
                process.wait(0)
            with pytest.raises(ck.Timeout):
                one.wait(0)
            assert process.communicate(b"x", 60).stdout == b"x"
            assert process.wait(60) == 0
        with one.popen(["sh", "-c", "exit 3"]) as process:
            assert process.wait() == 3
            assert process.wait() != 0


@pytest.mark.parametrize("flag", [False, True])
def test_text_may_be_a_variable(engine: Engine, busybox: str, flag: bool) -> None:
    result = engine.run(busybox, ["echo", "hi"], text=flag)
    assert_type(result, ck.Result[bytes] | ck.Result[str])
    assert result.stdout == ("hi\n" if flag else b"hi\n")
    with engine.start(busybox, ["sleep", "1000"]) as one:
        inner = one.exec(["cat"], input="x" if flag else b"x", text=flag)
        assert_type(inner, ck.Result[bytes] | ck.Result[str])
        assert inner.stdout == ("x" if flag else b"x")


async def _typed(engine: aio.Engine, flag: bool) -> None:
    """For type checkers only."""
    assert_type(await engine.run(None, "true", text=flag), ck.Result[bytes] | ck.Result[str])
    assert_type(await engine.run(None, "true", text=True), ck.Result[str])
