"""The handle of one started container.

Owns: its channel to the launcher, and the file its output goes to.  Properties ask the channel,
never block, and are live.  Must not: start anything (`runner` does).

Thread safety: the guard is held for every use of a descriptor, so that none is closed, and its
number given to something else, in between; waiting is done on a copy.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Self

from containerkit.errors import ConfigError, InvalidStatus, LaunchError, Timeout
from containerkit.model.exit import Exit
from containerkit.runtime import packets
from containerkit.runtime.failure import launch_error
from containerkit.runtime.runner import exit_of
from containerkit.state.atomic import remove_tree
from containerkit.stdio.waiting import drive, until_readable

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.launch.plan import Plan
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.runtime.runner import Runner, Startable, Started

Status = Literal["running", "stopped", "removed"]

_REMOVED: Final = packets.CAUSES.index("removed")
_READ: Final = 64 << 10

_living: weakref.WeakSet[Container] = weakref.WeakSet()


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
        "_kept",
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
        forget: Callable[[Container], object],
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
        self._kept = contextlib.ExitStack()
        self._status: Status = "running"
        _living.add(self)

    def keep(self, kept: contextlib.ExitStack) -> None:
        """Hold what its files need, such as the lease of its layers, until it is removed."""
        self._kept = kept

    def await_started(self) -> None:
        """Wait until the command runs.

        Raises:
            LaunchError: it could not be started.
        """
        event, fds = self._channel.receive()
        if event is not None and event.kind == packets.STARTED and fds:
            self._pidfd = fds[0]
            return
        for fd in fds:
            os.close(fd)
        if event is not None and event.kind == packets.FAILED:
            raise launch_error(self._plan, event)
        raise LaunchError("cannot start the container: its launcher died", plan=self._plan)

    # ---- what it is

    @property
    def status(self) -> Status:
        """As it is now: "running", "stopped" or "removed"."""
        with self._guard:
            self._look()
            return self._status

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        with self._guard:
            self._look()
            return self._exit

    @property
    def pid(self) -> int | None:
        """Its first process's id, as this process sees it; None when it has ended."""
        with self._guard:
            self._look()
            if self._status != "running":
                return None
            info = Path(f"/proc/self/fdinfo/{self._pidfd}").read_text(encoding="ascii")
        number = int(info.partition("\nPid:")[2].split()[0])
        return number if number > 0 else None

    def plan(self) -> Plan:
        """Return the plan it was started by; ``print(container.plan().explain())``."""
        return self._plan

    def log_text(self, tail: int | None = None) -> str:
        """Return what it has written so far, both streams in the order they came.

        Args:
            tail: only so many of the last lines.
        """
        data = bytearray()
        with self._guard:
            self._require("read the output of", "running", "stopped")
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
        while True:
            with self._guard:
                self._look()
                if self._exit is not None:
                    return self._exit
                self._require("wait for", "running")
                fd = os.dup(self._channel.fileno())
            try:
                ready = drive(until_readable(fd, deadline))
            finally:
                os.close(fd)
            if not ready:
                raise Timeout(f"container {self.id[:12]} still runs after {timeout} s", result=None)

    def kill(self, signal_: str | int = "KILL") -> None:
        """Send a signal to its first process.

        Args:
            signal_: a name with or without SIG, or a number.

        Raises:
            InvalidStatus: it has ended.
        """
        number = _signal_number(signal_)
        with self._guard:
            self._look()
            self._require("kill", "running")
            self._channel.kill(number)

    def remove(self, *, force: bool = False) -> None:
        """Remove it with all it has written; doing it twice is harmless.

        Args:
            force: kill it first if it runs.

        Raises:
            InvalidStatus: it runs, and *force* is not set.
        """
        with self._guard:
            self._look()
            if self._status == "running":
                if not force:
                    raise self._invalid("remove", ("stopped",))
                self._channel.kill(cause=_REMOVED)
        with contextlib.suppress(InvalidStatus):  # somebody else removes it
            self.wait()
        # In this order, each harmless when repeated: an interrupted removal is done by the next.
        with self._guard:
            if self._status == "removed":
                return
        remove_tree(self._directory)
        self._close()

    # ---- within

    def _look(self) -> None:
        """Take what the launcher has said meanwhile; with the guard held."""
        if self._status != "running":
            return
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if poll.poll(0):
            self._exit = exit_of(self._channel.peek())
            self._status = "stopped"

    def _close(self) -> None:
        """Let go of everything."""
        with self._guard:
            self._status = "removed"
            self._channel.close()
            pidfd, self._pidfd = self._pidfd, -1
            if pidfd >= 0:
                os.close(pidfd)
            self._output.close()
        self._kept.close()
        self._forget(self)

    def abandon(self) -> None:
        """Let go of a container that the launcher has ended or never started, and of its files."""
        if self._status != "removed":
            remove_tree(self._directory)
            self._close()

    def _forked(self) -> None:
        """In a forked child: it is the parent's, and the lock may have been held."""
        self._guard = threading.Lock()
        self._kept = contextlib.ExitStack()
        if self._status != "removed":
            self._close()

    def _require(self, verb: str, *allowed: Status) -> None:
        if self._status not in allowed:
            raise self._invalid(verb, allowed)

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


def _forked() -> None:
    for container in list(_living):
        container._forked()
    _living.clear()


os.register_at_fork(after_in_child=_forked)


def start(
    runner: Runner,
    what: Startable,
    command: Command | None,
    options: ContainerOptions,
    among: set[Container],
) -> Container:
    """Start a container that is kept after its end; failed or interrupted, nothing is left of it.

    Args:
        runner: of the engine.
        what: is started; its layers are leased by the caller.
        command: as `Engine.run` takes it.
        options: as the caller gave them.
        among: the engine's containers: it is one of them until it is removed.
    """
    # Without a name: gone with its last descriptor, whatever crashes.
    output: Any = tempfile.TemporaryFile(dir=runner.root / "containers", buffering=0)  # noqa: SIM115 (kept)
    try:
        # Opened again, so that several writers append and none can read.
        writer = os.open(
            f"/proc/self/fd/{output.fileno()}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        )
        try:
            streams = {"stdout": writer, "stderr": writer}
            started = runner.start(what, command, options, streams=streams, ephemeral=False)
        finally:
            os.close(writer)
    except BaseException:
        output.close()
        raise
    container = Container(
        started,
        directory=runner.root / "containers" / started.id,
        output=output,
        image_digest=what.digest,
        forget=among.discard,
    )
    among.add(container)
    try:
        container.await_started()
    except BaseException:
        started.channel.finish()
        container.abandon()
        raise
    return container


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
