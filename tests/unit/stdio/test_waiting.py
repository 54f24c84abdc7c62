"""`drive` with real descriptors."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from containerkit.errors import ConfigError
from containerkit.stdio.waiting import (
    READ,
    WRITE,
    Wait,
    Waiting,
    deadline_of,
    drive,
    until_readable,
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def test_the_value_of_a_generator_that_never_waits() -> None:
    def nothing() -> Waiting[str]:
        yield from ()
        return "value"

    assert drive(nothing()) == "value"


def test_what_is_ready_is_sent_back(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe

    def talk() -> Waiting[bytes]:
        ready = yield Wait(((read_end, READ), (write_end, WRITE)))
        assert ready == [(write_end, WRITE)]
        os.write(write_end, b"x")
        ready = yield Wait(((read_end, READ),))
        assert ready == [(read_end, READ)]
        return os.read(read_end, 10)

    assert drive(talk()) == b"x"


def test_a_deadline_that_passed_sends_nothing(pipe: tuple[int, int]) -> None:
    assert drive(until_readable(pipe[0], time.monotonic() - 1)) is False
    before = time.monotonic()
    assert drive(until_readable(pipe[0], before + 0.01)) is False
    assert time.monotonic() >= before + 0.01


def test_a_hang_up_is_readable(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    assert drive(until_readable(pipe[0])) is True


def test_a_deadline_beyond_what_poll_takes(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    assert drive(until_readable(pipe[0], time.monotonic() + 1e9)) is True


def test_an_interruption_is_raised_inside_the_generator(pipe: tuple[int, int]) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    def wait() -> Waiting[str]:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            yield Wait(((pipe[0], READ),))
        except Interrupted:
            return "tidy"
        return "not interrupted"

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        assert drive(wait()) == "tidy"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_interruption_beside_the_wait_is_raised_inside_too(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal comes between any two instructions: while the wait is prepared, too."""
    told: list[str] = []

    class Poll:
        def __init__(self) -> None:
            if len(told) == 1:
                told.append("interrupted")
                raise KeyboardInterrupt

        def register(self, *_: int) -> None:
            pass

        def poll(self, *_: object) -> list[tuple[int, int]]:
            return [(pipe[0], READ)]

    def wait() -> Waiting[str]:
        told.append("begun")
        try:
            yield Wait(((pipe[0], READ),))
        except KeyboardInterrupt:
            ready = yield Wait(((pipe[0], READ),))  # what is undone may be waited for
            assert ready == [(pipe[0], READ)]
            return "tidy"
        return "not interrupted"

    monkeypatch.setattr(select, "poll", Poll)
    assert drive(wait()) == "tidy"
    assert told == ["begun", "interrupted"]


def test_an_error_of_the_generator_comes_out(pipe: tuple[int, int]) -> None:
    def wait() -> Waiting[None]:
        os.write(pipe[1], b"x")
        yield Wait(((pipe[0], READ),))
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        drive(wait())


@pytest.mark.parametrize("timeout", ["5", b"5", float("nan"), object(), [1]])
def test_what_is_no_number_of_seconds(timeout: Any) -> None:
    with pytest.raises(ConfigError, match="is not a number of seconds"):
        deadline_of(timeout)


def test_a_wait_without_a_deadline() -> None:
    assert deadline_of(None) is None
