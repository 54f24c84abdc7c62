"""Execs and paused containers."""

from __future__ import annotations

import pytest

import containerkit as ck
from containerkit.errors import InvalidStatus
from tests.integration.exec.look import MARK, sleepers

pytestmark = pytest.mark.needs("control groups")


def test_none_begins_in_a_paused_container(box: ck.Container) -> None:
    box.pause()
    with pytest.raises(InvalidStatus) as caught:
        box.exec(["true"])
    assert caught.value.status == "paused"
    box.unpause()
    assert box.exec(["true"]).exit.ok


def test_one_is_paused_with_its_container_and_goes_on(box: ck.Container) -> None:
    with box.popen(["cat"]) as process:
        box.pause()
        process.stdin.write(b"later\n")
        box.unpause()
        assert next(process.stdout) == b"later\n"


def test_one_that_is_killed_meanwhile_ends_with_the_pause(box: ck.Container) -> None:
    with box.popen(f"sleep {MARK} & exec sleep {MARK}") as process:
        box.pause()
        process.kill()
        box.unpause()
        assert process.wait(timeout=60).signal == 9
        assert sleepers(box) == 0


@pytest.mark.parametrize("how", ["remove", "kill"])
def test_a_paused_container_ends_with_its_execs(box: ck.Container, how: str) -> None:
    with box.popen(["cat"]) as process:
        box.pause()
        if how == "kill":
            box.kill()
        else:
            box.remove(force=True)
        assert process.wait(timeout=60).signal == 9


def test_an_engine_closes_over_a_paused_container(engine: ck.Engine, busybox: str) -> None:
    with ck.Engine.open(engine.root) as other:
        box = other.start(busybox, ["sleep", "9999"])
        process = box.popen(["cat"])
        box.pause()
    assert process.wait(timeout=60).signal == 9
    process.close()
