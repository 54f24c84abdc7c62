"""Several waits side by side: who is served, who is ended, and what an end may wait for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from containerkit.stdio.aiodrive import adrive
from containerkit.stdio.together import together
from containerkit.stdio.waiting import READ, Wait, Waiting, drive, until_readable

Driver = Callable[[Waiting[Any]], Any]


def drive_async(waiting: Waiting[Any]) -> Any:
    return asyncio.run(adrive(waiting))


@pytest.fixture(params=[drive, drive_async], ids=["blocking", "asyncio"])
def driver(request: pytest.FixtureRequest) -> Driver:
    found: Driver = request.param
    return found


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    fds = os.pipe()
    yield fds
    for fd in fds:
        os.close(fd)


def pause(seconds: float, said: list[str], name: str) -> Waiting[None]:
    try:
        yield Wait((), time.monotonic() + seconds)
        said.append(name)
    finally:
        said.append(f"{name} ends")


def test_all_have_their_time(driver: Driver, pipe: tuple[int, int]) -> None:
    said: list[str] = []

    def later() -> Waiting[None]:
        yield from until_readable(pipe[0])
        yield from pause(0.01, said, "later")

    def sooner() -> Waiting[None]:
        yield from pause(0.01, said, "sooner")
        os.write(pipe[1], b"x")

    assert driver(together([later(), sooner()])) is True
    assert said == ["sooner", "sooner ends", "later", "later ends"]


def test_nothing_to_wait_for(driver: Driver) -> None:
    assert driver(together([])) is True


def test_one_descriptor_for_two(driver: Driver, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    assert driver(together([until_readable(pipe[0]), until_readable(pipe[0])])) is True


def test_the_deadline(driver: Driver, pipe: tuple[int, int]) -> None:
    said: list[str] = []
    waits = [until_readable(pipe[0]), pause(60, said, "long")]
    assert driver(together(waits, deadline=time.monotonic() + 0.01)) is False
    assert said == ["long ends"]


def test_what_is_always_ready_does_not_hold_the_deadline_up(
    driver: Driver, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"x")

    def busy() -> Waiting[None]:
        while True:
            yield Wait(((pipe[0], READ),))

    assert driver(together([busy()], deadline=time.monotonic() + 0.01)) is False


def test_a_guard_ends_the_others(driver: Driver, pipe: tuple[int, int]) -> None:
    said: list[str] = []

    def guard() -> Waiting[None]:
        yield from until_readable(pipe[0])
        raise KeyError("dead")

    os.write(pipe[1], b"x")
    # The same descriptor: the guard's word counts first.
    with pytest.raises(KeyError):
        driver(together([until_readable(pipe[0]), pause(60, said, "x")], guards=[guard()]))
    assert said == ["x ends"]


def test_a_guard_is_not_waited_for(driver: Driver) -> None:
    said: list[str] = []
    assert driver(together([pause(0, said, "a")], guards=[pause(60, said, "guard")])) is True
    assert said == ["a", "a ends", "guard ends"]


def test_an_end_may_wait(driver: Driver, pipe: tuple[int, int]) -> None:
    tidy: list[bool] = []

    def careful() -> Waiting[None]:
        try:
            yield Wait(())
        finally:
            os.write(pipe[1], b"x")
            tidy.append((yield from until_readable(pipe[0], time.monotonic() + 60)))

    assert driver(together([careful()], deadline=time.monotonic())) is False
    assert tidy == [True]


def test_one_that_fails_at_once(driver: Driver) -> None:
    said: list[str] = []

    def fails() -> Waiting[None]:
        yield from ()
        raise KeyError

    with pytest.raises(KeyError):
        driver(together([pause(60, said, "a"), fails()]))
    assert said == ["a ends"]


def test_closing_closes_all() -> None:
    said: list[str] = []
    waiting = together([pause(60, said, "a"), pause(60, said, "b")])
    next(waiting)
    waiting.close()
    assert sorted(said) == ["a ends", "b ends"]


def test_the_interest_is_the_same_object_as_long_as_it_is_the_same(pipe: tuple[int, int]) -> None:
    def two() -> Waiting[None]:
        interest = ((pipe[0], READ),)
        yield Wait(interest, 0.0)
        yield Wait(interest, 0.0)

    waiting = together([two()])
    first = next(waiting)
    second = waiting.send([])
    assert first.interest is second.interest
