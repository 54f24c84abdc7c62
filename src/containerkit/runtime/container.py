"""The handle of one started container.

Owns: its channel to the launcher, and the file its output goes to.  Properties ask the channel,
never block, and are live.  Must not: start anything (`runner` does).
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Self

from containerkit.errors import ConfigError, InvalidStatus, Timeout
from containerkit.model.exit import Exit
from containerkit.runtime import packets
from containerkit.runtime.failure import launch_error
from containerkit.runtime.runner import exit_of, send_kill
from containerkit.state.atomic import remove_tree
from containerkit.stdio.waiting import drive, until_readable

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.launch.plan import Plan
    from containerkit.runtime.runner import Started

Status = Literal["running", "stopped", "removed"]

_REMOVED: Final = packets.CAUSES.index("removed")
_READ: Final = 64 << 10


class Container:
    """A container started by this process; it ends, at the latest, with it.

    Leaving a ``with`` block kills and removes it.  Usable from several threads.

    Attributes:
        id: 64 hexadecimal digits.
        image_digest: of the image it was started from.
    """

    __slots__ = (
        "__weakref__",
        "_channel",
        "_directory",
        "_exit",
        "_forget",
        "_guard",
        "_output",
        "_pidfd",
        "_plan",
        "_status",
        "id",
        "image_digest",
    )

    def __init__(
        self,
        started: Started,
        *,
        directory: Path,
        output: BinaryIO,
        image_digest: str,
        forget: Callable[[Container], None],
    ) -> None:
        self.id = started.id
        self.image_digest = image_digest
        self._plan = started.plan
        self._channel = started.channel
        self._directory = directory
        self._output = output
        self._forget = forget
        self._guard = threading.Lock()
        self._exit: Exit | None = None
        self._pidfd = -1
        self._status: Status = "running"

    def await_started(self) -> None:
        """Wait until the command runs.

        Raises:
            LaunchError: it could not be started; nothing is left of it.
        """
        data, fds = _receive(self._channel)
        event = packets.parse_event(data)
        if event is not None and event.kind == packets.STARTED and fds:
            self._pidfd = fds[0]
            return
        for fd in fds:
            os.close(fd)
        self._close("removed")
        if event is not None and event.kind == packets.FAILED:
            raise launch_error(self._plan, event)
        raise InvalidStatus("cannot start the container: its launcher died", status="removed")

    # ---- what it is

    @property
    def status(self) -> Status:
        """As it is now: "running", "stopped" or "removed"."""
        self._look()
        return self._status

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        self._look()
        return self._exit

    @property
    def pid(self) -> int | None:
        """Its first process's id, as this process sees it; None when it has ended."""
        if self.status != "running" or self._pidfd < 0:
            return None
        for line in (
            Path(f"/proc/self/fdinfo/{self._pidfd}").read_text(encoding="ascii").splitlines()
        ):
            if line.startswith("Pid:"):
                number = int(line.split()[1])
                return number if number > 0 else None
        return None

    def plan(self) -> Plan:
        """Return the plan it was started by; ``print(container.plan().explain())``."""
        return self._plan

    def log_text(self, tail: int | None = None) -> str:
        """Return what it has written so far, both streams in the order they came.

        Args:
            tail: only so many of the last lines.
        """
        self._require("running", "stopped")
        data = bytearray()
        while chunk := os.pread(self._output.fileno(), _READ, len(data)):
            data += chunk
        text = data.decode("utf-8", "replace")
        if tail is None:
            return text
        return "".join(text.splitlines(keepends=True)[-tail:]) if tail > 0 else ""

    # ---- what it does

    def wait(self, *, timeout: float | None = None) -> Exit:
        """Wait until it has ended.

        Args:
            timeout: seconds; past them `Timeout` is raised and nothing is killed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.exit is None:
            if self._status == "removed":
                raise self._invalid("wait for", ("running", "stopped"))
            if not drive(until_readable(self._channel, deadline)):
                raise Timeout(f"container {self.id[:12]} still runs after {timeout} s", result=None)
        assert self._exit is not None
        return self._exit

    def kill(self, signal_: str | int = "KILL") -> None:
        """Send a signal to its first process.

        Args:
            signal_: a name with or without SIG, or a number.

        Raises:
            InvalidStatus: it has ended.
        """
        number = _signal_number(signal_)
        self._require("running")
        send_kill(self._channel, number)

    def remove(self, *, force: bool = False) -> None:
        """Remove it with all it has written; doing it twice is harmless.

        Args:
            force: kill it first if it runs.

        Raises:
            InvalidStatus: it runs, and *force* is not set.
        """
        if self.status == "removed":
            return
        if self._status == "running":
            if not force:
                raise self._invalid("remove", ("stopped",))
            send_kill(self._channel, signal.SIGKILL, _REMOVED)
            self.wait()
        with self._guard:
            if self._status != "stopped":
                return
            self._status = "removed"
        try:
            os.write(self._channel, packets.packet(packets.DROP))
            _receive(self._channel)  # RELEASED, or end-of-file when the launcher has gone
        except (BrokenPipeError, ConnectionResetError):
            pass
        remove_tree(self._directory)
        self._close("removed")

    # ---- within

    def _look(self) -> None:
        """Take what the launcher has said meanwhile."""
        with self._guard:
            if self._status != "running":
                return
            poll = select.poll()
            poll.register(self._channel, select.POLLIN)
            if not poll.poll(0):
                return
            event = packets.parse_event(_receive(self._channel)[0])
            self._exit = exit_of(event)
            self._status = "stopped"

    def _close(self, status: Status) -> None:
        with self._guard:
            self._status = status
            for fd in (self._channel, self._pidfd):
                if fd >= 0:
                    os.close(fd)
            self._channel = self._pidfd = -1
            self._output.close()
        self._forget(self)

    def abandon(self) -> None:
        """Let go of a container whose launcher has ended, and everything of it with that."""
        if self._status != "removed":
            self._close("removed")

    def _require(self, *allowed: Status) -> None:
        if self.status not in allowed:
            raise self._invalid("use", allowed)

    def _invalid(self, verb: str, allowed: tuple[Status, ...]) -> InvalidStatus:
        return InvalidStatus(
            f"cannot {verb} container {self.id[:12]}: it is {self._status}",
            hint="remove(force=True) kills it first" if verb == "remove" else None,
            status=self._status,
            allowed=allowed,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove(force=True)

    def __repr__(self) -> str:
        return f"<Container {self.id[:12]} {self.status}>"


def _receive(channel: int) -> tuple[bytes, list[int]]:
    import socket

    with socket.socket(fileno=os.dup(channel)) as end:
        try:
            data, fds, _flags, _address = socket.recv_fds(end, packets.EVENT.size, 1)
        except ConnectionResetError:
            return b"", []
    for fd in fds:
        os.set_inheritable(fd, False)
    return data, list(fds)


def _signal_number(value: str | int) -> int:
    """Return the number of a signal given by name or number.

    Raises:
        ConfigError: there is none such.
    """
    try:
        if isinstance(value, int):
            return signal.Signals(value).value
        name = value.upper()
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"].value
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{value!r} is not a signal", hint='as "TERM", "SIGKILL" or 15'
        ) from error
