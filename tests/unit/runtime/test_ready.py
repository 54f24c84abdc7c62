"""Conditions of readiness on a subject made of pipes; containers are in tests/integration/waits."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from containerkit.errors import CommandNotFound, ConfigError, NotReady, Timeout
from containerkit.model.exit import Exit
from containerkit.model.ready import Ready
from containerkit.runtime.ready import not_ready, until_ready
from containerkit.stdio.entry import LogEntry
from containerkit.stdio.waiting import Wait, Waiting, drive, until_readable


class Log:
    """Entries that are there, then those that a pipe brings, one a byte."""

    def __init__(self, lines: list[bytes], fd: int) -> None:
        self.lines = deque(lines)
        self.fd = fd
        self.closed = False

    def take(self) -> Waiting[LogEntry | None]:
        if not self.lines:
            yield from until_readable(self.fd)
            return None
        return LogEntry(datetime.now(UTC), "stdout", self.lines.popleft())

    def close(self) -> None:
        self.closed = True


class Subject:
    """A container as `until_ready` sees it; this process stands for its first one."""

    label = "container test"

    def __init__(self, *lines: bytes) -> None:
        self.end, self.alive = os.pipe()
        self.log = Log(list(lines), self.end)
        self.healths = ["healthy"]
        self.codes: list[int | Exception] = [0]
        self.seconds: list[float] = []
        self.commands: set[str | tuple[str, ...]] = set()
        self.how: Exit | None = None

    def pid(self) -> int | None:
        return os.getpid()

    def health(self) -> str | None:
        if not self.healths:
            return None
        return self.healths.pop(0) if len(self.healths) > 1 else self.healths[0]

    def health_said(self) -> str:
        return "no answer"

    def until_ended(self) -> Waiting[bool]:
        return until_readable(self.end)

    def exit(self) -> Exit | None:
        return self.how

    def lines(self) -> Log:
        return self.log

    def last_lines(self, count: int) -> tuple[str, ...]:
        return ("first words", "last words")[-count:]

    def probe(self, command: str | tuple[str, ...], seconds: float) -> Waiting[int]:
        self.seconds.append(seconds)
        self.commands.add(command)
        yield Wait((), time.monotonic())
        code = self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]
        if isinstance(code, Exception):
            raise code
        return code

    def die(self, how: Exit) -> None:
        self.how = how
        os.close(self.alive)
        self.alive = -1


@pytest.fixture
def subject() -> Iterator[Subject]:
    one = Subject(b"starting\n", b"ready\n", b"working\n", b"ready again\n")
    yield one
    os.close(one.end)
    if one.alive >= 0:
        os.close(one.alive)


def wait(subject: Subject, **conditions: Any) -> None:
    drive(until_ready(Ready(interval=0.001, **conditions), subject))


def test_a_port(subject: Subject) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wait(subject, port=server.getsockname()[1])


def test_lines_of_the_log(subject: Subject) -> None:
    wait(subject, log="^ready( again)?$", times=2)
    assert not subject.log.lines
    assert subject.log.closed


def test_a_line_that_does_not_come_often_enough(subject: Subject) -> None:
    with pytest.raises(Timeout, match=r"log 'ready': found 2 of 3 times"):
        wait(subject, log="ready", times=3, timeout=0.05)
    assert subject.log.closed


def test_a_command_is_tried_until_it_succeeds(subject: Subject) -> None:
    subject.codes = [1, CommandNotFound("not there yet"), 7, 0]
    wait(subject, command=["check"], timeout=30)
    assert len(subject.seconds) == 4
    assert subject.commands == {("check",)}
    assert all(0 < seconds <= 30 for seconds in subject.seconds)


def test_a_command_that_never_does(subject: Subject) -> None:
    subject.codes = [3]
    with pytest.raises(Timeout, match=r"command 'check': ended with code 3\)"):
        wait(subject, command="check", timeout=0.05)


def test_health(subject: Subject) -> None:
    subject.healths = ["starting", "unhealthy", "starting", "healthy"]
    wait(subject, healthy=True)
    subject.healths = ["unhealthy"]
    with pytest.raises(Timeout, match="health: unhealthy: no answer"):
        wait(subject, healthy=True, timeout=0.02)


def test_health_of_what_has_no_check(subject: Subject) -> None:
    subject.healths = []
    with pytest.raises(ConfigError, match="no health check"):
        wait(subject, healthy=True)


def test_all_must_hold(subject: Subject) -> None:
    subject.codes = [1]
    with pytest.raises(Timeout) as caught:
        wait(subject, log="ready", healthy=True, command="check", timeout=0.05)
    assert str(caught.value) == (
        "container test was not ready after 0.05 s (command 'check': ended with code 1);"
        " its log ends with:\nfirst words\nlast words"
    )
    assert caught.value.log == ("first words", "last words")


def test_its_end_is_told_at_once(subject: Subject) -> None:
    subject.die(Exit(code=7))
    with pytest.raises(NotReady) as caught:
        wait(subject, port=1, timeout=3600)
    assert str(caught.value) == (
        "container test exited with code 7 before it was ready (port 1/tcp);"
        " its log ends with:\nfirst words\nlast words"
    )
    assert caught.value.exit == Exit(code=7)
    assert caught.value.log == ("first words", "last words")


def test_its_end_while_its_log_is_read(subject: Subject) -> None:
    subject.die(Exit.by_signal(9))
    with pytest.raises(NotReady, match="signal 9"):
        wait(subject, log="never", timeout=3600)
    assert subject.log.closed


def test_what_never_ran(subject: Subject) -> None:
    assert "does not run" in str(not_ready(subject, "port 1/tcp"))
