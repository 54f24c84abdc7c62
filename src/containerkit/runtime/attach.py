"""Attach to a container: its streams as those of a `Process`, whoever started it.

What it writes is followed in its log from now on; what is written to it goes to the launcher's end
of its input, or to its terminal.  A thread moves the bytes between those and the pipes that a
`Process` has, and waits for the start of a container that was created only.

Owns: that thread, its pipes, and detaching, which ends nothing in the container.
Must not: start or judge anything.  Neighbours: `process` is the handle, `following` tells the end.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

import attrs

from containerkit.errors import ConfigError, ContainerKitError, InvalidStatus, Timeout, refusals
from containerkit.model.log import log_of
from containerkit.model.result import Usage
from containerkit.model.signals import signal_number
from containerkit.runtime import packets
from containerkit.runtime import status as words
from containerkit.runtime.birth import Kept
from containerkit.runtime.entrance import opening_input, write_all
from containerkit.runtime.following import Following
from containerkit.runtime.process import Ends, Process
from containerkit.runtime.terminal import resize, typed
from containerkit.stdio.follow import Follower
from containerkit.stdio.logfiles import LogFiles
from containerkit.stdio.together import together
from containerkit.stdio.waiting import Wait, Waiting, deadline_of, drive, until_readable
from containerkit.stdio.watch import Watch

if TYPE_CHECKING:
    from containerkit.model.exit import Exit
    from containerkit.model.result import Result
    from containerkit.runtime.verbs import Verbs

_CHUNK: Final = 64 << 10
_living: weakref.WeakSet[_Pump] = weakref.WeakSet()


class _Detached(Exception):
    """Raised within the pump when its process was closed."""


class _Pump:
    """Moves bytes between a container and the pipes of its `Attached`, in a thread of its own.

    Args:
        container: created, or running.
        tty: it has a terminal.
        with_input: something can be written to it.

    Attributes:
        ends: the pipes' other ends, for the process.
    """

    def __init__(self, container: Verbs, *, tty: bool, with_input: bool) -> None:
        self._container = container
        self._input = -1
        self._guard = threading.Lock()
        self.failure: ContainerKitError | None = None
        """What ended it, if that was not the container or its user."""
        with refusals("attach to the container"):
            self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._fds = [self._stop]
        self._followers: list[tuple[Follower, int, int]] = []
        stdin = stdout = stderr = -1
        try:
            stdout = self._follow(1)
            if not tty:
                stderr = self._follow(2)
            if with_input:
                with refusals("attach to the container"):
                    self._input, stdin = os.pipe()
                self._fds.append(self._input)
            self.ends = Ends(stdin, stdout, stderr)
            self._thread = threading.Thread(
                target=self._run, name="containerkit-attach", daemon=True
            )
            _living.add(self)
            with refusals("attach to the container"):
                self._thread.start()
        except BaseException:
            self._close()
            for fd in (stdout, stderr, stdin):
                if fd >= 0:
                    os.close(fd)
            raise

    @refusals("follow what the container says")
    def _follow(self, stream: int) -> int:
        """Follow one stream from the log's present end on; return where it can be read."""
        directory = self._container._directory
        ours, theirs = os.pipe()
        self._fds.append(theirs)
        try:
            follower = Follower(directory, Following(self._container))
            self._followers.append((follower, stream, theirs))
            follower.files = LogFiles(directory, tail=1)
            while follower.files.read(grow=False):
                continue
        except BaseException:
            os.close(ours)
            raise
        os.set_blocking(theirs, False)
        return ours

    def _run(self) -> None:
        moves = [self._write_out(*each) for each in self._followers]
        if self._input >= 0:
            moves.append(self._move_in(self._input))
        try:
            with contextlib.suppress(ContainerKitError):  # it is noted
                drive(together(moves, guards=[self._until_stopped()]))
        except _Detached:
            self._pass_on()
        finally:
            self._close()

    def _until_stopped(self) -> Waiting[None]:
        yield from until_readable(self._stop)
        raise _Detached

    # ---- out

    def _write_out(self, follower: Follower, stream: int, pipe: int) -> Waiting[None]:
        """Write what a stream says to a pipe, then close it."""
        try:
            while records := (yield from follower.take()):
                data = b"".join([r.data for r in records if r.stream == stream])
                if data and not (yield from write_all(pipe, data)):
                    return
        except ContainerKitError as error:
            self.failure = error  # before the pipes end: who reads them asks then
            raise
        finally:
            follower.close()
            self._drop(pipe)

    # ---- in

    def _move_in(self, pipe: int) -> Waiting[None]:
        yield from self._write_in(pipe)
        self._drop(pipe)

    def _write_in(self, pipe: int) -> Waiting[None]:
        """Write what comes from a pipe to the container, then close its input."""
        target = -1
        try:
            while True:
                yield from until_readable(pipe)
                data = os.read(pipe, _CHUNK)
                if target < 0:
                    target = yield from self._reach()
                if target < 0 or (data and not (yield from write_all(target, data))):
                    return
                if not data:
                    self._ask(packets.CLOSE_INPUT)
                    return
        except ContainerKitError as error:
            self.failure = error
            raise
        finally:
            if target >= 0:
                os.close(target)

    def _pass_on(self) -> None:
        """Pass on what was written before its process was closed, as far as it is taken at once."""
        if self._input not in self._fds:
            return
        os.set_blocking(self._input, False)
        target = -1
        try:
            with contextlib.suppress(ContainerKitError, OSError):  # nothing more, or nobody
                data = os.read(self._input, _CHUNK)
                if self._container.status == "created":
                    return
                target = drive(opening_input(self._container))
                while data:
                    os.write(target, data)
                    data = os.read(self._input, _CHUNK)
                self._ask(packets.CLOSE_INPUT)
        finally:
            if target >= 0:
                os.close(target)

    def _reach(self) -> Waiting[int]:
        """Return a descriptor of its input once it runs; -1 when it will not."""
        watch = Watch(self._container._directory)
        try:
            while self._container.status == "created":
                yield from watch.changed()
            return (yield from opening_input(self._container))
        except InvalidStatus:
            return -1
        finally:
            watch.close()

    def _ask(self, kind: int) -> None:
        with contextlib.suppress(InvalidStatus):
            self._container._ask(kind)

    # ---- the end

    def _drop(self, fd: int) -> None:
        if fd in self._fds:
            self._fds.remove(fd)
            os.close(fd)

    def _close(self) -> None:
        for follower, _stream, _pipe in self._followers:
            follower.close()
        with self._guard:
            while self._fds:
                os.close(self._fds.pop())

    def stop(self, *, join: bool = True) -> None:
        """End the thread; what was read from the container and not from the pipes is lost."""
        with self._guard:
            if self._stop in self._fds:
                os.eventfd_write(self._stop, 1)
        if join and self._thread.is_alive():
            self._thread.join()

    def abandon(self) -> None:
        """End the thread, and close the ends that nobody has taken."""
        self.stop()
        for fd in self.ends:
            if fd >= 0:
                os.close(fd)

    def forked(self) -> None:
        """In a forked child, where there is no such thread: close its descriptors."""
        self._guard = threading.Lock()
        self._close()


class Attached(Process[bytes]):
    """A container's first process, made by `Container.attach`.

    What it says from now on is in `stdout` and `stderr` (with a terminal all in `stdout`), which end
    when the container has ended for good.  `stdin` is there with the option ``stdin_open``, or with a
    terminal; closing it ends the container's input, not a terminal's.  `close` and leaving a ``with``
    block detach and end nothing.
    """

    __slots__ = ("_container", "_pump", "_tty")

    def __init__(self, container: Verbs) -> None:
        container._require("attach to", "created", *words.LIVE)
        kept = Kept.of(container._read_row())
        self._container = container
        self._tty = bool(kept.options.get("tty"))
        if not log_of(kept.options.get("log")).max_size:
            raise ConfigError(
                f"cannot attach to container {container._called()}: what it writes is kept nowhere",
                hint="start it without log=False",
            )
        with_input = self._tty or bool(kept.options.get("stdin_open"))
        self._pump = _Pump(container, tty=self._tty, with_input=with_input)
        try:
            # What a channel is asked for is answered by the container here; this one only ends.
            channel: Any = Following(container)
            pid = container.pid or -1
        except BaseException:
            self._pump.abandon()
            raise
        super().__init__(channel, self._pump.ends, pid=pid, coding=None, image_digest=kept.digest)

    # ---- its end

    def _look(self) -> None:
        if self._exit is None and self._container.status not in ("created", *words.LIVE):
            self._exit = self._container.exit

    def _waiting(self, timeout: float | None = None) -> Waiting[Exit]:
        """Do `wait`, in whichever face."""
        self._exit = yield from self._container._waiting(timeout=timeout)
        return self._exit

    def send_signal(self, signal: str | int) -> None:
        """Send the container's first process a signal; one that has ended gets none."""
        with contextlib.suppress(InvalidStatus):
            self._container._sent(signal_number(signal))

    def resize(self, rows: int, cols: int) -> None:
        """Say how large its terminal's window is; what runs in it gets SIGWINCH.

        Raises:
            ConfigError: it has no terminal, or the numbers are none of a window.
            InvalidStatus: it does not run.
        """
        if not self._tty:
            raise ConfigError(f"cannot resize {self}: it has no terminal", hint="tty=True")
        master = drive(opening_input(self._container))
        try:
            resize(master, rows, cols)
        finally:
            os.close(master)

    # ---- all of it

    def _communicating(
        self,
        input: bytes | None = None,  # noqa: A002  (subprocess's name for it)
        *,
        timeout: float | None = None,
    ) -> Waiting[Result[bytes]]:
        """Do `communicate`, in whichever face."""
        deadline = deadline_of(timeout)
        self._take_input(typed(input) if self._tty and input is not None else input)
        while interest := self._exchange():
            if not (yield Wait(interest, deadline)):
                raise Timeout(f"{self} still runs after {timeout} s", result=None)
        if self._pump.failure is not None:
            raise self._pump.failure
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        yield from self._waiting(left)
        return self._result()

    def _result(self) -> Result[bytes]:
        """Return it with what the record says of its run."""
        state = self._container._look().state
        if state is None:
            return super()._result()
        return attrs.evolve(
            super()._result(),
            duration=max(0, state.finished_ns - state.started_ns) / 1e9,
            usage=Usage(state.user_us / 1e6, state.system_us / 1e6, state.max_rss_kib * 1024),
        )

    # ---- letting go

    def close(self) -> None:
        """Detach; the container goes on.  Harmless when repeated."""
        self._let_go()

    def _forked(self) -> None:
        self._pump.forked()  # first: its event is shared with the parent's
        super()._forked()

    def _let_go(self) -> None:
        self._pump.stop()  # first: an end of input that is none must not be passed on
        super()._let_go()

    def __del__(self) -> None:
        pump = getattr(self, "_pump", None)
        if pump is not None:
            pump.stop(join=False)

    def __str__(self) -> str:
        return f"container {self._container._called()}"


def _forked() -> None:
    for pump in list(_living):
        pump.forked()
    _living.clear()


os.register_at_fork(after_in_child=_forked)
