"""Operations that meet: each gives the right result or a typed error, and nothing is left."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import containerkit as ck
from tests.integration.handles.support import FOREVER, directories

Verb = Callable[[], object]


def at_once(*verbs: Verb) -> list[BaseException | None]:
    """Do all of them at the same time; return what each raised."""
    barrier = threading.Barrier(len(verbs))
    raised: list[BaseException | None] = [None] * len(verbs)

    def act(number: int, verb: Verb) -> None:
        barrier.wait()
        try:
            verb()
        except BaseException as error:
            raised[number] = error

    threads = [threading.Thread(target=act, args=pair) for pair in enumerate(verbs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in raised:
        assert error is None or isinstance(error, ck.ContainerKitError), repr(error)
    return raised


@pytest.fixture
def second(engine: ck.Engine) -> ck.Engine:
    return engine


def test_two_starts(engine: ck.Engine, busybox: str) -> None:
    for _ in range(10):
        with engine.containers.create(busybox, FOREVER) as one:
            other = engine.containers.get(one.id)
            raised = at_once(one.start, other.start)
            assert [type(error) for error in raised if error] == [ck.InvalidStatus]
            assert one.status == "running"


def test_two_removes(engine: ck.Engine, busybox: str) -> None:
    for _ in range(10):
        one = engine.start(busybox, FOREVER)
        other = engine.containers.get(one.id)
        raised = at_once(lambda: one.remove(force=True), lambda: other.remove(force=True))  # noqa: B023
        assert raised == [None, None]
        assert one.status == "removed"
    assert directories(engine) == []


def test_a_stop_during_a_start(engine: ck.Engine, busybox: str) -> None:
    for _ in range(10):
        with engine.containers.create(busybox, FOREVER) as one:
            other = engine.containers.get(one.id)
            raised = at_once(one.start, other.stop)
            assert raised[0] is None
            assert raised[1] is None or isinstance(raised[1], ck.InvalidStatus)
            other.stop()
            assert one.status == "stopped"


def test_a_start_during_a_removal(engine: ck.Engine, busybox: str) -> None:
    for _ in range(10):
        one = engine.containers.create(busybox, FOREVER)
        other = engine.containers.get(one.id)
        raised = at_once(one.start, lambda: other.remove(force=True))  # noqa: B023
        assert raised[1] is None
        assert raised[0] is None or isinstance(raised[0], ck.InvalidStatus)
        assert one.status == "removed"
    assert directories(engine) == []


def test_one_name_for_several(engine: ck.Engine, busybox: str) -> None:
    made: list[ck.Container] = []
    for _ in range(5):
        raised = at_once(
            *[lambda: made.append(engine.containers.create(busybox, name="wanted"))] * 4
        )
        assert [type(error) for error in raised].count(ck.AlreadyExists) == 3
        made.pop().remove()
    assert made == []


def test_renames_that_meet(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox) as one, engine.containers.create(busybox) as two:
        for _ in range(10):
            raised = at_once(lambda: one.rename("taken"), lambda: two.rename("taken"))
            assert sum(isinstance(error, ck.AlreadyExists) for error in raised) == 1
            assert sorted([one.name, two.name]).count("taken") == 1
            one.rename("a")
            two.rename("b")


def test_lists_and_lookups_while_things_vanish(engine: ck.Engine, busybox: str) -> None:
    done = threading.Event()
    failures: list[BaseException] = []

    def look() -> None:
        while not done.is_set():
            try:
                for one in engine.containers.list():
                    assert one.status in ("created", "running", "stopped", "removed")
                    try:
                        found = engine.containers.get(one.id)
                        found.inspect()
                    except ck.ContainerNotFound:
                        continue
            except BaseException as error:
                failures.append(error)
                return

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(15):
            with engine.start(busybox, FOREVER):
                pass
            engine.containers.create(busybox).remove()
    finally:
        done.set()
        for thread in looking:
            thread.join()
    assert failures == []


@pytest.mark.needs("control groups")
def test_a_pause_and_an_end(engine: ck.Engine, busybox: str) -> None:
    """It is paused first, or not at all: that somebody ended it is told as its status."""
    for _ in range(20):
        with engine.start(busybox, FOREVER) as one:
            other = engine.containers.get(one.id)
            raised = at_once(one.pause, other.kill)
            assert [type(error) for error in raised if error] in ([], [ck.InvalidStatus])
            assert one.wait(timeout=60).signal == 9
