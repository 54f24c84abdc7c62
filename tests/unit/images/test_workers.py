"""Tasks run a few at a time; their events, and the first of their errors, reach the caller."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from containerkit.errors import HostError
from containerkit.images.workers import run_tasks
from tests.support import refused

Say = Callable[[int], None]


def test_events_are_delivered_in_the_callers_thread_and_all_tasks_end() -> None:
    seen: list[int] = []
    where: set[int] = set()

    def deliver(event: int) -> None:
        seen.append(event)
        where.add(threading.get_ident())

    tasks: list[Callable[[Say], None]] = [lambda say, n=n: say(n) for n in range(20)]  # type: ignore[misc]
    run_tasks(tasks, workers=3, cancelled=threading.Event(), deliver=deliver)
    assert sorted(seen) == list(range(20))
    assert where == {threading.get_ident()}


def test_no_more_than_the_given_number_run_at_once_and_in_order() -> None:
    both = threading.Barrier(2)
    started: list[int] = []

    def task(number: int) -> Callable[[Say], None]:
        def run(_: Say) -> None:
            started.append(number)
            both.wait(120)

        return run

    run_tasks(
        [task(number) for number in range(4)],
        workers=2,
        cancelled=threading.Event(),
        deliver=lambda _: None,
    )
    assert [sorted(started[:2]), sorted(started[2:])] == [[0, 1], [2, 3]]


def test_the_first_error_cancels_the_others_and_comes_out() -> None:
    cancelled = threading.Event()
    ran: list[int] = []

    def fail(_: Say) -> None:
        raise ZeroDivisionError

    def wait(_: Say) -> None:
        assert cancelled.wait(120)
        raise InterruptedError

    tasks: list[Callable[[Say], None]] = [wait, fail, lambda _: ran.append(1)]
    with pytest.raises(ZeroDivisionError):
        run_tasks(tasks, workers=2, cancelled=cancelled, deliver=lambda _: None)
    assert not ran


def test_an_error_of_the_receiver_cancels_the_tasks() -> None:
    cancelled = threading.Event()
    ended: list[bool] = []

    def task(say: Say) -> None:
        say(1)
        ended.append(cancelled.wait(120))

    def refuse(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks([task], workers=2, cancelled=cancelled, deliver=refuse)
    assert ended == [True]


def test_no_tasks_are_done_at_once() -> None:
    run_tasks([], workers=2, cancelled=threading.Event(), deliver=lambda _: None)


def test_without_a_thread_nothing_begins() -> None:
    seen: list[int] = []
    task: Callable[[Say], None] = lambda say: say(1)  # noqa: E731
    with refused.threads(), pytest.raises(HostError, match="start a download"):
        run_tasks([task], workers=3, cancelled=threading.Event(), deliver=seen.append)
    assert seen == []


class Opened:
    """Something that a task has open."""


def test_what_a_failed_task_had_open_goes_with_its_error() -> None:
    left: list[weakref.ref[Opened]] = []

    def task(_: Say) -> None:
        opened = Opened()
        left.append(weakref.ref(opened))
        raise ZeroDivisionError

    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError):
            run_tasks([task], workers=1, cancelled=threading.Event(), deliver=lambda _: None)
        assert [one() for one in left] == [None]
    finally:
        gc.enable()
