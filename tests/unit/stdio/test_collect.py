"""`collect` with real pipes and sockets: the far ends are held by the test or by a thread."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from containerkit.stdio.collect import Collected, collect
from containerkit.stdio.entry import LogEntry
from containerkit.stdio.waiting import drive


class Command:
    """The far ends of a command's three pipes and of its exit channel."""

    def __init__(self) -> None:
        self.stdin, self.near_stdin = os.pipe()
        self.near_stdout, self.stdout = os.pipe()
        self.near_stderr, self.stderr = os.pipe()
        self.near_channel, self.channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._open = {self.stdin, self.stdout, self.stderr}

    def close(self, *fds: int) -> None:
        for fd in fds:
            self._open.remove(fd)
            os.close(fd)

    def end(self, report: bytes = b"report") -> None:
        """End as a launcher sees it: everything closed, then the report."""
        self.close(*self._open)
        self.channel.send(report)

    def collect(
        self,
        *,
        data: bytes = b"",
        max_output: int | None = None,
        on_output: Callable[[LogEntry], object] | None = None,
        deadline: float | None = None,
        kill: Callable[[], float | None] | None = None,
        grace: float = 10.0,
        drain: float = 10.0,
    ) -> Collected:
        return drive(
            collect(
                exit_channel=self.near_channel.fileno(),
                stdin=self.near_stdin,
                stdout=self.near_stdout,
                stderr=self.near_stderr,
                data=data,
                max_output=max_output,
                on_output=on_output,
                deadline=deadline,
                kill=kill,
                grace=grace,
                drain=drain,
            )
        )

    def near_pipes_closed(self) -> bool:
        return not any(_is_open(fd) for fd in (self.near_stdin, self.near_stdout, self.near_stderr))

    def dispose(self) -> None:
        for fd in self._open:
            os.close(fd)
        self.near_channel.close()
        self.channel.close()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def command() -> Iterator[Command]:
    command = Command()
    yield command
    command.dispose()


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_both_streams_and_the_report(command: Command) -> None:
    os.write(command.stdout, b"out")
    os.write(command.stderr, b"err")
    command.end(b"\x00code")
    assert command.collect() == Collected(b"out", b"err", False, b"\x00code", False)
    assert command.near_pipes_closed()


def test_without_pipes_only_the_report_is_awaited(command: Command) -> None:
    command.channel.send(b"done")
    channel = command.near_channel.fileno()
    assert drive(collect(exit_channel=channel)) == Collected(b"", b"", False, b"done", False)
    for fd in (command.near_stdin, command.near_stdout, command.near_stderr):
        os.close(fd)


def test_input_larger_than_a_pipe_comes_back(command: Command) -> None:
    """Both directions at once: neither side may wait for the other."""
    data = os.urandom(1 << 20)

    def echo() -> None:
        while chunk := os.read(command.stdin, 4096):
            os.write(command.stdout, chunk)
        command.end()

    thread = beside(echo)
    collected = command.collect(data=data)
    thread.join()
    assert collected.stdout == data
    assert not collected.truncated


def test_the_input_ends_at_once_when_there_is_none(command: Command) -> None:
    def read_all() -> None:
        os.write(command.stdout, b"%d" % len(os.read(command.stdin, 10)))
        command.end()

    thread = beside(read_all)
    assert command.collect().stdout == b"0"
    thread.join()


def test_a_command_that_does_not_read_its_input_is_no_error(command: Command) -> None:
    command.close(command.stdin)
    os.write(command.stdout, b"fine")
    command.end()
    assert command.collect(data=b"x" * (1 << 20)).stdout == b"fine"


def test_a_command_that_stops_reading_midway_is_no_error(command: Command) -> None:
    def read_some() -> None:
        os.read(command.stdin, 10)
        command.end()

    thread = beside(read_some)
    assert command.collect(data=b"x" * (1 << 20)).exit_packet == b"report"
    thread.join()


@pytest.mark.parametrize("limit", [0, 1, 99_999, 100_000, 100_001])
def test_what_is_beyond_max_output_is_read_and_dropped(command: Command, limit: int) -> None:
    def say() -> None:
        for _ in range(1000):
            os.write(command.stdout, b"0123456789" * 10)
        os.write(command.stderr, b"!")
        command.end()

    thread = beside(say)
    collected = command.collect(max_output=limit)
    thread.join()
    assert collected.stdout == (b"0123456789" * 10_000)[:limit]
    assert collected.stderr == b"!"[:limit]
    assert collected.truncated is (limit < 100_000)


def test_on_output_is_given_whole_lines_in_this_thread(command: Command) -> None:
    entries: list[LogEntry] = []
    threads: set[int] = set()

    def on_output(entry: LogEntry) -> None:
        entries.append(entry)
        threads.add(threading.get_ident())

    os.write(command.stdout, b"one\ntw")
    os.write(command.stderr, b"error")
    os.write(command.stdout, b"o\nthree")
    command.end()
    collected = command.collect(on_output=on_output, max_output=2)
    assert [e.data for e in entries if e.stream == "stdout"] == [b"one\n", b"two\n", b"three"]
    assert [e.data for e in entries if e.stream == "stderr"] == [b"error"]
    assert collected.stdout == b"on"
    assert threads == {threading.get_ident()}
    assert all(datetime(2020, 1, 1, tzinfo=UTC) < entry.time for entry in entries)


def test_on_output_hears_a_line_before_the_command_ends(command: Command) -> None:
    os.write(command.stdout, b"line\n")
    heard: list[bytes] = []

    def on_output(entry: LogEntry) -> None:
        heard.append(entry.data)
        command.end()  # the command ends only because its line was heard

    command.collect(on_output=on_output)
    assert heard == [b"line\n"]


def test_what_on_output_raises_ends_the_collection(command: Command) -> None:
    def on_output(entry: LogEntry) -> None:
        raise ZeroDivisionError(entry.data)

    os.write(command.stdout, b"line\n")
    with pytest.raises(ZeroDivisionError):
        command.collect(on_output=on_output)
    assert command.near_pipes_closed()


def test_the_deadline_without_kill_ends_it_with_what_was_said(command: Command) -> None:
    os.write(command.stdout, b"partial")
    collected = command.collect(deadline=time.monotonic())
    assert collected == Collected(b"partial", b"", False, None, True)
    assert command.near_pipes_closed()


def test_the_deadline_kills_once_and_still_takes_the_report(command: Command) -> None:
    kills: list[str] = []

    def kill() -> None:
        kills.append("killed")
        os.write(command.stdout, b" last words")
        command.end(b"timeout")

    os.write(command.stdout, b"partial")
    collected = command.collect(deadline=time.monotonic(), kill=kill)
    assert collected == Collected(b"partial last words", b"", False, b"timeout", True)
    assert kills == ["killed"]


def test_a_flood_of_output_does_not_hide_the_deadline(command: Command) -> None:
    os.write(command.stdout, b"y\n" * 1000)  # whoever comes first, this is there

    def flood() -> None:
        try:
            while True:
                os.write(command.stdout, b"y\n" * 4096)
        except OSError:
            pass

    thread = beside(flood)
    collected = command.collect(deadline=time.monotonic() + 0.02, max_output=1000)
    thread.join()
    assert collected.timed_out
    assert collected.truncated
    assert len(collected.stdout) == 1000


def test_the_report_may_not_take_longer_than_its_grace(command: Command) -> None:
    collected = command.collect(deadline=time.monotonic(), kill=lambda: None, grace=0.01)
    assert collected.exit_packet is None
    assert collected.timed_out


def test_a_pipe_held_by_somebody_else_is_not_awaited(command: Command) -> None:
    other = os.dup(command.stdout)
    os.write(command.stdout, b"said")
    command.end()
    collected = command.collect(drain=0.01)
    os.close(other)
    assert collected == Collected(b"said", b"", False, b"report", False)


def test_what_was_said_before_the_end_is_read_however_late(command: Command) -> None:
    """Though the time to drain is over at once, and somebody holds the pipe open."""
    fcntl.fcntl(command.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)
    other = os.dup(command.stdout)
    os.write(command.stdout, b"x" * 1_000_000)
    command.end()
    collected = command.collect(drain=0.0)
    os.close(other)
    assert collected == Collected(b"x" * 1_000_000, b"", False, b"report", False)


def test_a_flood_of_somebody_else_does_not_hide_the_end(command: Command) -> None:
    other = os.dup(command.stdout)

    def flood() -> None:
        try:
            while True:
                os.write(other, b"y\n" * 4096)
        except OSError:
            pass

    command.end()
    thread = beside(flood)
    collected = command.collect(drain=0.0, max_output=1000)
    thread.join()
    os.close(other)
    assert collected.exit_packet == b"report"


def test_a_report_in_time_is_no_timeout_though_the_drain_expires(command: Command) -> None:
    other = os.dup(command.stderr)
    command.end()
    collected = command.collect(deadline=time.monotonic() + 60, drain=0.01)
    os.close(other)
    assert collected.timed_out is False


def test_the_end_of_the_exit_channel_is_an_end_without_report(command: Command) -> None:
    command.close(command.stdin, command.stdout, command.stderr)
    command.channel.close()
    assert command.collect() == Collected(b"", b"", False, None, False)


def test_an_abandoned_collection_closes_its_pipes(command: Command) -> None:
    generator = collect(
        exit_channel=command.near_channel.fileno(),
        stdin=command.near_stdin,
        stdout=command.near_stdout,
        stderr=command.near_stderr,
        data=b"x" * (1 << 20),
    )
    next(generator)
    generator.close()
    assert command.near_pipes_closed()
