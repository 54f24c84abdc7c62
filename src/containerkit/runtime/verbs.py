"""What changes a container: start, stop, kill, pause, restart, rename, update, remove; and `wait`.

Owns the order of the steps of each verb, and what of it is told as an event.  Must not: speak the
launcher's protocol beyond one request.  Neighbours: `begin` starts, `birth` unmakes.

Any of them may meet any other from any process: each looks, asks, and looks again when the answer
says that the container is not what it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal as signals
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from containerkit.errors import (
    ConfigError,
    ContainerNotFound,
    HostError,
    InvalidStatus,
    Timeout,
)
from containerkit.model.signals import signal_number
from containerkit.runtime import begin, birth, direct, freezing, packets
from containerkit.runtime import status as words
from containerkit.runtime.handle import Handle
from containerkit.runtime.listeners import takes_signal
from containerkit.runtime.names import check_name
from containerkit.runtime.recover import look_for_lost
from containerkit.state import events
from containerkit.stdio.waiting import READ, Wait, Waiting, deadline_of, drive

if TYPE_CHECKING:
    from containerkit.model.exit import Exit
    from containerkit.model.limits import Limits

DEFAULT_GRACE: Final = 10.0
_KILL_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.005
_REMOVE_SECONDS: Final = 25.0
_REMOVED: Final = packets.CAUSES.index("removed")
_GONE: Final = frozenset({errno.ESRCH, errno.ENOENT})


class Verbs(Handle):
    """The part of `Container` that does."""

    __slots__ = ()

    # ---- start and stop

    def start(self) -> None:
        """Start it, for the first time or again; an owner's container is this process's from now on.

        Raises:
            InvalidStatus: it runs, or was removed.
            LaunchError: it could not be started, and is as it was.
            ConfigError, MissingFeature: an option has no meaning any more, or not here.

        Blocking: until its command runs; on another start or removal of it, at most 25 s.
        """
        self._keeper.require_open()
        try:
            with begin.Operation(self._keeper, self.id):
                self._require("start", "created", "stopped")
                begin.begin(self._keeper, self._read_row())
        except ContainerNotFound:
            raise self._refusal("start", "removed", "created", "stopped") from None

    def stop(self, *, grace: float | None = None) -> None:
        """Ask it to end, then kill it; stopping one that has ended is harmless.

        It is not started again by its restart policy.  A first process that neither handles nor
        ignores the stop signal is killed at once: the kernel would not deliver it.  One whose launcher is itself
        stopped (SIGSTOP) ends all the same; its status says so when that goes on.

        Args:
            grace: seconds between the stop signal and the kill; None: its option ``stop_grace``,
                else 10.

        Raises:
            InvalidStatus: it never ran, or was removed.

        Blocking: until it has ended.
        """
        drive(self._waiting_stopped(grace=grace))

    def _waiting_stopped(self, *, grace: float | None = None) -> Waiting[None]:
        """Do `stop`, in whichever face; interrupted, it has only asked."""
        self._keeper.require_open()
        deadline_of(grace, what="grace")  # it is a number
        if grace is not None and grace < 0:
            raise ConfigError(f"grace {grace!r} is not a number of seconds")
        look = self._require("stop", "stopped", *words.LIVE)
        if not look.is_live:
            return
        number, seconds = self._stopping(grace)
        asked = seconds > 0 and takes_signal(self.pid, number)
        first = number if asked else signals.SIGKILL
        ended = yield from direct.ending(self, first, seconds)
        if asked and not ended:
            self._signal(number, packets.STOP_ASKED, thaw=look.status == "paused")
        events.append(self._keeper.root, "stop", self.id, name=self._name_or_none())
        if ended:
            return
        try:
            if asked:
                yield from self._waiting(timeout=seconds)
                return
        except Timeout:
            pass
        yield from self._killing(0)

    def kill(self, signal: str | int = "KILL") -> None:
        """Send a signal to its first process.

        Killed, or sent its stop signal, it is not started again by its restart policy.  The first
        process of a pid namespace gets SIGKILL, and of the others only those that it has a handler
        for (pid_namespaces(7)); with the option ``init`` the command gets them all.

        Args:
            signal: a name with or without SIG, or a number.

        Raises:
            InvalidStatus: it does not run.
            ConfigError: there is no such signal.

        Blocking: for SIGKILL, until it has ended, at most 10 s.
        """
        drive(self._waiting_killed(signal))

    def _waiting_killed(self, signal: str | int = "KILL") -> Waiting[None]:
        """Do `kill`, in whichever face."""
        self._keeper.require_open()
        if self._sent(signal_number(signal)):
            with contextlib.suppress(Timeout, InvalidStatus):
                yield from self._waiting(timeout=_KILL_SECONDS)

    def _sent(self, number: int) -> bool:
        """Send a signal for `kill`; say whether its launcher will tell of the end soon."""
        look = self._require("kill", *words.LIVE)
        ends = number in (signals.SIGKILL, self._stopping(None)[0])
        thaw = look.status == "paused" and number == signals.SIGKILL
        flags = packets.STOP_ASKED if ends else 0
        if direct.signal(self, number, flags):
            return False
        if not self._signal(number, flags, thaw=thaw):
            raise self._refusal("kill", self._look().status, *words.LIVE)
        return number == signals.SIGKILL

    def restart(self, *, grace: float | None = None) -> None:
        """Stop it and start it again.

        Args:
            grace: as for `stop`.

        Raises:
            The errors of `stop` and `start`; one that is not running is just started.
        """
        self._keeper.require_open()
        if self._look().is_live:
            self.stop(grace=grace)
        self.start()

    def pause(self) -> None:
        """Freeze all its processes; what they hold stays.

        Raises:
            InvalidStatus: it does not run, or is paused, or somebody ends it meanwhile.
            MissingFeature: there is no control group to freeze.
            HostError: the kernel did not freeze all of them within 10 s; they go on.

        Blocking: until they are frozen.
        """
        self._keeper.require_open()
        self._require("pause", "running")
        freezing.demand(self, "pause", packets.FREEZE, "running")
        try:
            freezing.wait_frozen(self)
        except HostError:
            self._ask(packets.THAW)
            raise

    def unpause(self) -> None:
        """Let its processes go on.

        Raises:
            InvalidStatus: it is not paused.
        """
        self._keeper.require_open()
        self._require("unpause", "paused")
        freezing.demand(self, "unpause", packets.THAW, "paused")

    # ---- wait

    def wait(self, timeout: float | None = None) -> Exit:
        """Wait until it has ended for good; a restart policy's restarts are not its end.

        Args:
            timeout: seconds; past them `Timeout` is raised and nothing is killed.

        Raises:
            Timeout: it still runs.
            InvalidStatus: it never ran, or was removed before.
        """
        return drive(self._waiting(timeout=timeout))

    def _waiting(self, *, timeout: float | None = None) -> Waiting[Exit]:
        """Do `wait`, in whichever face."""
        deadline = deadline_of(timeout)
        while True:
            found = self.exit
            if found is not None:
                return found
            try:
                channel = self._connect(packets.WATCH)
            except InvalidStatus as refusal:
                if refusal.status == "stopped":  # between its end and what it says of it
                    yield from _pause(deadline)
                    if self.exit is not None or self._look().status == "stopped":
                        continue
                found = self.exit  # its launcher may have died since, and it is about to be removed
                if found is not None:
                    return found
                raise self._refusal("wait for", self._look().status, *words.LIVE) from None
            try:
                interest = ((channel.fileno(), READ),)
                while True:
                    if not (yield Wait(interest, deadline)):
                        raise Timeout(
                            f"container {self._called()} still runs after {timeout} s", result=None
                        )
                    event, fds = channel.receive()
                    for fd in fds:
                        os.close(fd)
                    if event is None or event.kind != packets.STARTED:
                        break
            finally:
                channel.close()
            if event is not None and event.kind == packets.EXITED:
                self._exit = words.exit_of_event(event)
                return self._exit
            if event is not None and event.errnum in _GONE:
                look_for_lost(self._keeper.root, self.id)
            elif event is not None:
                yield from _pause(deadline)

    # ---- change

    def rename(self, name: str) -> None:
        """Give it another name.

        Raises:
            AlreadyExists: another container has it.
            InvalidStatus: it was removed.
            ConfigError: it is no name.
        """
        self._keeper.require_open()
        check_name(name)
        self._require("rename", *words.STATUSES[:-1])
        old = self._name_or_none()
        try:
            birth.rename(self._keeper, self.id, name)
        except ContainerNotFound:
            raise self._refusal("rename", "removed", *words.STATUSES[:-1]) from None
        events.append(self._keeper.root, "rename", self.id, name=name, old=old)

    def update(self, *, limits: Limits) -> None:
        """Change its limits, now and for later starts.

        Args:
            limits: those that are None stay as they are.

        Raises:
            InvalidStatus: it was removed.
            ConfigError: together with the others they have no meaning.
            MissingFeature, HostError: this host can not hold one of them, or not while it runs; none
                is changed for good.
        """
        self._keeper.require_open()
        from containerkit.runtime.updating import update

        self._require("update", *words.STATUSES[:-1])
        update(self, limits)
        events.append(self._keeper.root, "update", self.id, name=self._name_or_none())

    def remove(self, *, force: bool = False, keep_volumes: bool = False) -> None:
        """Remove it with all it has written; doing it twice is harmless.

        Args:
            force: kill it first if it runs.
            keep_volumes: leave its anonymous volumes; there are none yet.

        Raises:
            InvalidStatus: it runs, and *force* is not set.
            Timeout: another start or removal of it did not end.

        Blocking: until its processes are dead and its files gone.
        """
        self._keeper.require_open()
        del keep_volumes
        row = self._row
        try:
            with begin.Operation(self._keeper, self.id):
                look = self._look()
                if look.is_live and not force:
                    raise self._refusal("remove", look.status, "created", "stopped")
                with contextlib.suppress(ContainerNotFound):
                    row = self._read_row()
                was_this = self._end_and_unmake(time.monotonic() + _REMOVE_SECONDS)
        except ContainerNotFound:  # somebody else was first, or this was tried before
            birth.remove_rest(self._keeper, self.id)
            return
        if was_this and row is not None:
            events.append(self._keeper.root, "remove", self.id, name=row.name, image=row.reference)

    # ---- within

    def _killing(self, cause: int) -> Waiting[None]:
        """Kill it if something runs it, and wait; what its launcher did not hear is said again.

        Raises:
            Timeout: its launcher hears nothing.
        """
        deadline = time.monotonic() + _REMOVE_SECONDS
        while self._look().is_live and not (yield from direct.ending(self)):
            if self._signal(signals.SIGKILL, packets.STOP_ASKED, cause=cause, thaw=True):
                with contextlib.suppress(InvalidStatus):
                    yield from self._waiting()
                return
            if time.monotonic() > deadline:
                raise Timeout(
                    f"cannot end container {self._called()}: its launcher does not answer"
                )
            yield from _pause(deadline)

    def _end_and_unmake(self, deadline: float) -> bool:
        """End it, and remove it; say whether it was still there."""
        while True:
            drive(self._killing(_REMOVED))
            self._exit = self.exit
            try:
                return birth.unmake(self._keeper, self.id)
            except BlockingIOError as error:  # a start that was interrupted goes on
                with direct.stalled(self) as first:
                    if first is not None and first < 0:
                        return birth.unmake(self._keeper, self.id, stalled=True)
                if time.monotonic() > deadline:
                    raise Timeout(
                        f"cannot remove container {self._called()}: its launcher does not let go"
                    ) from error
                drive(_pause(deadline))

    def _stopping(self, grace: float | None) -> tuple[int, float]:
        """Return its stop signal, and for how long it is waited for."""
        kept = birth.Kept.of(self._read_row())
        wanted = kept.options.get("stop_signal") or kept.config.stop_signal or "TERM"
        configured = kept.options.get("stop_grace") if grace is None else grace
        seconds = DEFAULT_GRACE if configured is None else configured
        try:
            return signal_number(wanted), seconds
        except ConfigError:  # the image's
            return signals.SIGTERM, seconds

    def _signal(self, number: int, flags: int, *, cause: int = 0, thaw: bool = False) -> bool:
        """Send a signal; False when it has ended meanwhile."""
        with contextlib.suppress(InvalidStatus):
            event, _fds = self._ask(packets.SIGNAL, values=(number, cause, flags))
            if thaw:  # in cgroup version 2 a kill needs none: it may have ended by now
                with contextlib.suppress(InvalidStatus):
                    self._ask(packets.THAW)
            if event is not None and event.errnum in _GONE:
                look_for_lost(self._keeper.root, self.id)
            return event is not None and event.kind == packets.DONE
        return False

    def _name_or_none(self) -> str | None:
        with contextlib.suppress(ContainerNotFound):
            return self.name
        return None

    def _undo_start(self) -> None:
        """Undo a start or a create; the end of the engine has done it already."""
        if not self._keeper.closed:
            self.remove(force=True)

    def _undo_at_exit(self) -> Callable[[], object] | None:
        """Return what leaving a ``with`` block does for who has made it: nothing to a detached one.

        Nor does a forked child undo what its parent did.
        """
        if self._read_row().lifetime == "detached":
            return None
        maker = os.getpid()

        def undo() -> None:
            if os.getpid() == maker:
                self._undo_start()

        return undo


def _pause(deadline: float | None) -> Waiting[None]:
    """Wait a moment where the kernel has nothing to wait for."""
    moment = time.monotonic() + _RETRY_SECONDS
    yield Wait((), moment if deadline is None else min(moment, deadline))
