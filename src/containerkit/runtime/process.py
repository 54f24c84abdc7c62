"""The handle of one process that was started in a container: its streams, its end.

Owns: the channel to the launcher and our ends of the pipes, or of the terminal, until it is closed.
Must not: start anything (`execute` and `attach` do).

Thread safety: usable from several threads; the guard is held for every use of the channel, so that
it is not closed in between, and waiting is done on a copy.  A forked child owns nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, AnyStr, Final, Generic, Literal, NamedTuple, Self

from containerkit.errors import ConfigError, Timeout
from containerkit.model.result import Result, decoded
from containerkit.runtime import packets
from containerkit.runtime.ends import duration_of, exit_of, usage_of
from containerkit.runtime.inputs import duplicated
from containerkit.runtime.terminal import resize, typed
from containerkit.stdio.pipes import Reader, Writer, encoded
from containerkit.stdio.waiting import READ, WRITE, Interest, Wait, Waiting, deadline_of, drive

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.model.coding import Coding
    from containerkit.model.exit import Exit
    from containerkit.runtime.channel import Channel

MaybeNone = Any
"""Beside a type: None only in cases that a caller knows, so that type checkers ask for no check."""

_DRAIN_SECONDS: Final = 0.25
_KILL_SECONDS: Final = 10.0

_living: weakref.WeakSet[Process[Any]] = weakref.WeakSet()


class Ends(NamedTuple):
    """Descriptors of a process's streams; with a terminal each is a copy of its master.

    Attributes:
        stdin, stdout, stderr: -1 where there is none.
        terminal: its master once more, for its window; -1 without one.
    """

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    terminal: int = -1


class Process(Generic[AnyStr]):
    """A process in a container, made by `Container.popen` or `Container.attach`.

    Leaving a ``with`` block kills it, with all it has started, if it runs, and closes its streams.

    Attributes:
        stdin: a file to write to; closing it is the end of the process's input.  None when attached
            to one without ``stdin_open``, or when it reads a file.
        stdout: lines when iterated, chunks by ``read1``; with a terminal all output is here.  None
            when it goes to a file.
        stderr: as ``stdout``; None with a terminal, too.
        pid: as this process sees it; -1 when it was attached to before it was started.
        argv: what was executed.
    """

    __slots__ = (
        "__weakref__",
        "_channel",
        "_coding",
        "_event",
        "_exit",
        "_guard",
        "_image_digest",
        "_rest",
        "_said",
        "_terminal",
        "argv",
        "pid",
        "stderr",
        "stdin",
        "stdout",
    )

    def __init__(
        self,
        channel: Channel,
        ends: Ends,
        *,
        pid: int,
        coding: Coding | None,
        argv: tuple[str, ...] = (),
        image_digest: str = "",
    ) -> None:
        self._channel = channel
        self._guard = threading.Lock()
        self._exit: Exit | None = None
        self._event: packets.Event | None = None
        self._terminal = ends.terminal
        self._coding = coding
        self._image_digest = image_digest
        self._rest: memoryview | None = None
        self._said: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self.stdin: Writer[AnyStr] | MaybeNone = _end(Writer, ends.stdin, coding)
        self.stdout: Reader[AnyStr] | MaybeNone = _end(Reader, ends.stdout, coding)
        self.stderr: Reader[AnyStr] | MaybeNone = _end(Reader, ends.stderr, coding)
        self.pid = pid
        self.argv = argv
        _living.add(self)

    # ---- its end

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self.poll()

    @property
    def returncode(self) -> int | None:
        """Its exit code, 128 + n for signal n; None while it runs."""
        ended = self.poll()
        return None if ended is None else ended.returncode

    def poll(self) -> Exit | None:
        """Return how it ended, None while it runs."""
        with self._guard:
            self._look()
            return self._exit

    def wait(self, timeout: float | None = None) -> Exit:
        """Wait until it has ended, and everything that it started with it.

        Args:
            timeout: seconds; past them `Timeout` is raised and nothing is killed.

        Blocking: for ever if its output fills a pipe that nobody reads; `communicate` reads it.
        """
        return drive(self._waiting(timeout))

    def _waiting(self, timeout: float | None = None) -> Waiting[Exit]:
        """Do `wait`, in whichever face."""
        deadline = deadline_of(timeout)
        while True:
            with self._guard:
                self._look()
                if self._exit is not None:
                    return self._exit
                fd = duplicated(self._channel.fileno())
            try:
                ready = yield Wait(((fd, READ),), deadline)
            finally:
                os.close(fd)
            if not ready:
                raise Timeout(f"{self} still runs after {timeout} s", result=None)

    def _look(self) -> None:
        """Take what the launcher has said meanwhile; with the guard held."""
        if self._exit is not None:
            return
        if self._channel.fileno() < 0:  # closed, or in a forked child
            self._exit = exit_of(None)
            return
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if poll.poll(0):
            self._event, fds = self._channel.receive()
            for fd in fds:
                os.close(fd)
            self._exit = exit_of(self._event)
            self._channel.close()

    # ---- signals

    def send_signal(self, signal: str | int) -> None:
        """Send it a signal; one that has ended gets none.

        Args:
            signal: a name with or without SIG, or a number; SIGKILL ends everything that it has
                started, too.

        Raises:
            ConfigError: there is no such signal.
        """
        from containerkit.model.signals import signal_number

        number = signal_number(signal)
        with self._guard:
            self._look()
            if self._exit is None:
                self._channel.kill(number)

    def kill(self) -> None:
        """Kill it and everything that it started."""
        self.send_signal("KILL")

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal("TERM")

    def resize(self, rows: int, cols: int) -> None:
        """Say how large its terminal's window is; it gets SIGWINCH.

        Args:
            rows: characters from top to bottom.
            cols: characters from left to right (ioctl_tty(2), TIOCSWINSZ).

        Raises:
            ConfigError: it has no terminal, or the numbers are none of a window.
        """
        with self._guard:
            if self._terminal < 0:
                raise ConfigError(f"cannot resize {self}: it has no terminal", hint="tty=True")
            resize(self._terminal, rows, cols)

    # ---- all of it

    def communicate(
        self,
        input: AnyStr | None = None,  # noqa: A002  (subprocess's name for it)
        timeout: float | None = None,
    ) -> Result[AnyStr]:
        """Write *input* and close it, read all output, wait for the end.

        Args:
            input: the first time only.
            timeout: seconds; past them `Timeout` is raised, nothing is killed and nothing lost:
                call it again.

        Returns:
            What it said since it was started, less what was read from the streams before.
        """
        return drive(self._communicating(input, timeout=timeout))

    def _communicating(
        self,
        input: AnyStr | None = None,  # noqa: A002  (subprocess's name for it)
        *,
        timeout: float | None = None,
    ) -> Waiting[Result[AnyStr]]:
        """Do `communicate`, in whichever face."""
        deadline = deadline_of(timeout)
        self._take_input(input)
        with self._guard:
            self._look()
            channel = -1 if self._exit is not None else duplicated(self._channel.fileno())
        try:
            while (wait := self._next_wait(channel, deadline)) is not None:
                if (yield wait):
                    continue
                if self._exit is not None:  # somebody else holds a stream open
                    break
                raise Timeout(f"{self} still runs after {timeout} s", result=None)
        finally:
            if channel >= 0:
                os.close(channel)
        return self._result()

    def _next_wait(self, channel: int, deadline: float | None) -> Wait | None:
        """Do what can be done without waiting; return what to wait for, None when all is done."""
        interest: Interest = self._exchange()
        if self.poll() is None:
            return Wait((*interest, (channel, READ)), deadline)
        return Wait(interest, time.monotonic() + _DRAIN_SECONDS) if interest else None

    def _take_input(self, given: AnyStr | None) -> None:
        if given and (self._rest is not None or self.stdin is None or self.stdin.closed):
            raise ValueError("cannot send input after it was closed")
        if self._rest is None and self.stdin is not None and not self.stdin.closed:
            data = b"" if given is None else encoded(given, self._coding)
            if self._terminal >= 0:
                data = typed(data)
            self._rest = memoryview(data)

    def _exchange(self) -> tuple[tuple[int, int], ...]:
        """Move what can be moved without waiting; return what to wait for."""
        interest: list[tuple[int, int]] = []
        for name, stream in (("stdout", self.stdout), ("stderr", self.stderr)):
            if stream is None:
                continue
            if not stream.ended and _is_ready(stream.fileno(), select.POLLIN):
                stream._fill()
            self._said[name] += stream._drain()
            if not stream.ended:
                interest.append((stream.fileno(), READ))
        if self._rest is not None and self.stdin is not None and not self.stdin.closed:
            self._feed(self.stdin)
            if not self.stdin.closed:
                interest.append((self.stdin.fileno(), WRITE))
        return tuple(interest)

    def _feed(self, stdin: Writer[AnyStr]) -> None:
        rest = self._rest
        try:
            while rest and _is_ready(stdin.fileno(), select.POLLOUT):
                # No more than certainly fits: PIPE_BUF bytes do when a pipe is writable (pipe(7)).
                rest = rest[os.write(stdin.fileno(), rest[: select.PIPE_BUF]) :]
        except OSError:  # nobody reads it any more
            rest = None
        self._rest = rest if rest is not None else memoryview(b"")
        if not self._rest:
            stdin.close()

    def _result(self) -> Result[AnyStr]:
        assert self._exit is not None
        result = Result(
            stdout=bytes(self._said["stdout"]),
            stderr=bytes(self._said["stderr"]),
            exit=self._exit,
            duration=duration_of(self._event),
            usage=usage_of(self._event),
            image_digest=self._image_digest,
            argv=self.argv,
        )
        made: Any = result if self._coding is None else decoded(result, self._coding)
        return made  # type: ignore[no-any-return]

    # ---- letting go

    def close(self) -> None:
        """Kill it if it runs, with all it has started, and close its streams; harmless when repeated.

        Blocking: until it has ended, at most 10 s.
        """
        try:
            self.kill()
            with contextlib.suppress(Timeout):
                self.wait(timeout=_KILL_SECONDS)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        with self._guard:
            self._channel.close()
            terminal, self._terminal = self._terminal, -1
            if terminal >= 0:
                os.close(terminal)
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def _forked(self) -> None:
        """In a forked child: it is the parent's, and a lock may have been held."""
        self._guard = threading.Lock()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream._forget()
        self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        self.close()
        return False

    def __del__(self) -> None:
        """A process that nobody can talk to any more ends: so the launcher takes a closed channel."""
        if (channel := getattr(self, "_channel", None)) is not None:
            channel.close()
        terminal, self._terminal = getattr(self, "_terminal", -1), -1
        if terminal >= 0:
            os.close(terminal)

    def __str__(self) -> str:
        return f"{self.argv[0] if self.argv else 'the process'} (pid {self.pid})"

    def __repr__(self) -> str:
        return f"<Process {self} {'runs' if self.poll() is None else self._exit}>"


def _end(kind: Any, fd: int, coding: Coding | None) -> Any:
    return None if fd < 0 else kind(fd, coding)


def _is_ready(fd: int, events: int) -> bool:
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(0))


def _abandon_all() -> None:
    for process in list(_living):
        process._forked()
    _living.clear()


os.register_at_fork(after_in_child=_abandon_all)
