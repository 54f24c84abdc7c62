"""One `Engine.run`, in the parts that both faces need: begin it, wait for it, judge what came.

Owns: the pipes and the channel of a command that is run to its end, from the start on.  Must not:
look up images or lease their layers; the caller does both, around `begin` and `waiting`.
Flow: `Engine.run` or its asyncio twin → here → `Runner.start`, then `stdio.collect` → a Result.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from containerkit.errors import ConfigError, Timeout
from containerkit.model.coding import UTF8
from containerkit.model.limits import parse_size
from containerkit.model.result import Result, decoded
from containerkit.runtime import packets
from containerkit.runtime.channel import not_started
from containerkit.runtime.ends import duration_of, exit_of, usage_of
from containerkit.runtime.failure import launch_error, was_stillborn
from containerkit.runtime.inputs import close, close_all
from containerkit.runtime.lowers import MustCopy
from containerkit.runtime.redirect import DEVNULL, PIPE, redirect_of
from containerkit.runtime.terminal import master_of, typed
from containerkit.stdio.collect import Collected, collect
from containerkit.stdio.waiting import Wait, deadline_of, drive

if TYPE_CHECKING:
    from containerkit.model.coding import Coding
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.runtime.channel import Channel
    from containerkit.runtime.redirect import Redirect, StreamLike
    from containerkit.runtime.runner import Runner
    from containerkit.runtime.starts import Startable, Started
    from containerkit.stdio.entry import LogEntry
    from containerkit.stdio.waiting import Waiting

_TIMEOUT: Final = packets.CAUSES.index("timeout")


class Exchange(NamedTuple):
    """How a command that is waited for is spoken to, and judged; made by `exchange`."""

    data: bytes | bytearray | memoryview | None
    coding: Coding | None
    check: bool
    timeout: float | None
    max_output: int | None
    on_output: Callable[[LogEntry], object] | None
    leads: Redirect

    @property
    def streams(self) -> tuple[str, ...]:
        """For which of its streams a descriptor is sent."""
        return self.leads.sent

    def deadline(self) -> float | None:
        """Return when it has had its time, if it begins now; on the clock of ``time.monotonic``."""
        return None if self.timeout is None else time.monotonic() + self.timeout

    def judge(self, result: Result[bytes], *, timed_out: bool) -> Result[bytes] | Result[str]:
        """Return the result as it was asked for.

        Raises:
            Timeout: it was killed for the time it took.
            ProcessFailed: it failed, and ``check`` was asked for.
        """
        final: Result[bytes] | Result[str] = (
            result if self.coding is None else decoded(result, self.coding)
        )
        if timed_out:
            what = final.command or "the command"
            raise Timeout(f"{what} still ran after {self.timeout} s and was killed", result=final)
        return final.check() if self.check else final


def exchange(
    *,
    input: bytes | str | None,  # noqa: A002  (subprocess.run's name for it)
    coding: Coding | None,
    check: bool,
    timeout: float | None,
    max_output: int | str | None,
    on_output: Callable[[LogEntry], object] | None,
    streams: tuple[StreamLike, StreamLike, StreamLike] = (None, None, None),
    tty: bool = False,
) -> Exchange:
    """Return the options of ``run`` and ``exec`` checked, and as the core wants them.

    Raises:
        ConfigError: one has no meaning.
    """
    limit = None if max_output is None else parse_size(max_output, what="max_output")
    data = (coding or UTF8).encode(input) if isinstance(input, str) else input
    if data is not None and not isinstance(data, bytes | bytearray | memoryview):
        raise ConfigError(f"input is {type(data).__name__}, neither bytes nor text")
    deadline_of(timeout)  # it is a number
    if timeout is not None and timeout < 0:
        raise ConfigError(f"timeout {timeout!r} is not a number of seconds")
    leads = redirect_of(*streams, usual=DEVNULL if data is None else PIPE, tty=tty)
    if data is not None and leads.stdin != PIPE:
        raise ConfigError("stdin and input exclude each other", hint="give one of them")
    return Exchange(data, coding, check, timeout, limit, on_output, leads)


class Run:
    """A command run to its end in a container of its own.

    Life: made; begun once; waited for once, or abandoned.

    Args:
        runner: of the engine.
        command: as `Engine.run` takes it.
        options: as the caller gave them.
        how: its input, output and time.
    """

    __slots__ = (
        "_again",
        "_command",
        "_how",
        "_image",
        "_options",
        "_ours",
        "_runner",
        "_started",
    )

    def __init__(
        self,
        runner: Runner,
        command: Command | None,
        options: ContainerOptions,
        how: Exchange,
    ) -> None:
        self._runner = runner
        self._command = command
        self._options = options
        self._how = how
        self._ours: dict[str, int] = {}
        self._started: Started | None = None
        self._image: Startable | None = None
        self._again = False

    def begin(self, image: Startable) -> Run:
        """Have the launcher start it; its layers stay leased until it was waited for.

        Raises:
            ConfigError, MissingFeature, HostError: see `compile_plan`.
        """
        self._image = image
        theirs: dict[str, int] = {}
        if not self._options.get("tty"):
            self._ours, theirs = self._how.leads.make()
        try:
            self._started = self._runner.start(
                image, self._command, self._options, streams=theirs, ephemeral=True
            )
        except BaseException:
            close_all(self._ours.values())
            raise
        finally:
            close_all(theirs.values())
        return self

    def waiting(self) -> Waiting[Result[bytes] | Result[str]]:
        """Wait until its processes are dead and its directory is gone; interrupted, see to that.

        Raises:
            LaunchError: it did not start.
            MustCopy: it is to begin again.
            Timeout, ProcessFailed: see `Exchange.judge`.
        """
        started, self._started = self._started, None
        assert started is not None
        channel, how, terminal = started.channel, self._how, bool(self._options.get("tty"))
        event, collected = None, Collected(b"", b"", False, None, False)
        try:
            if terminal:
                event, self._ours = yield from master_of(
                    channel, with_input=how.data is not None, deadline=self._latest()
                )
            if event is None:
                collected = yield from self._taken(
                    self._collect(channel, terminal=terminal), started
                )
                event = packets.parse_event(collected.exit_packet or b"")
        finally:
            if event is None:  # interrupted: whatever is still running is killed and removed
                yield from channel.finishing(unheard=started.launcher.is_unheard())
                self._runner.bury_the_dead()
            else:
                channel.close()
            started.let_go()
        if event is not None and event.kind == packets.FAILED:
            if collected.timed_out and event.errnum == errno.ECHILD:  # killed in its set-up
                event = event._replace(kind=packets.EXITED, signal=signal.SIGKILL, cause=_TIMEOUT)
                return how.judge(self._result(collected, event, started), timed_out=True)
            if self._runner.lowers.refused(started.plan, event):
                raise MustCopy
            if was_stillborn(event) and not self._again:
                self._again = True
                assert self._image is not None
                return (yield from self.begin(self._image).waiting())
            raise self._failure(event, started)
        return how.judge(self._result(collected, event, started), timed_out=collected.timed_out)

    def _latest(self) -> float:
        """Return when a start is given up, on the clock of ``time.monotonic``."""
        latest = time.monotonic() + self._runner.start_seconds
        own = self._how.deadline()
        return latest if own is None else min(own, latest)

    def _taken(self, waiting: Waiting[Collected], started: Started) -> Waiting[Collected]:
        """Collect, unless the launcher does not take the request.

        Raises:
            Timeout: it has not within `EngineConfig.start_timeout`.
        """
        seconds = self._runner.start_seconds
        latest: float | None = time.monotonic() + seconds
        try:
            wait = next(waiting)
            while True:
                if latest is not None and (wait.deadline is None or latest < wait.deadline):
                    ready = yield Wait(wait.interest, latest)
                else:
                    ready = yield wait
                if latest is not None and time.monotonic() >= latest:
                    latest = None
                    if started.launcher.is_unheard():
                        raise not_started(seconds, unheard=True)
                wait = waiting.send(ready)  # nothing that is ready before the deadline is no harm
        except StopIteration as end:
            collected: Collected = end.value
            return collected
        finally:
            waiting.close()

    def _collect(self, channel: Channel, *, terminal: bool) -> Waiting[Collected]:
        how, ours = self._how, self._ours
        data = bytes(how.data or b"")
        return collect(
            exit_channel=channel.fileno(),
            stdin=ours.get("stdin"),
            stdout=ours.get("stdout"),
            stderr=ours.get("stderr"),
            data=typed(data) if terminal else data,
            max_output=how.max_output,
            on_output=how.on_output,
            deadline=how.deadline(),
            close=close,
            kill=lambda: channel.kill(cause=_TIMEOUT),
        )

    def complete(self, image: Startable) -> Result[bytes] | Result[str]:
        """Begin it and wait for it, once more with a copy of its layers if need be."""
        while True:
            with contextlib.suppress(MustCopy):
                return drive(self.begin(image).waiting())

    def abandon(self) -> None:
        """End one that was begun and will not be waited for.

        Blocking: until nothing is left of it.
        """
        started, self._started = self._started, None
        if started is not None:
            close_all(self._ours.values())
            started.channel.finish()
            started.let_go()

    def _failure(self, event: packets.Event, started: Started) -> Exception:
        assert self._image is not None
        plan = self._runner.compile(  # again, since a repeated plan does not have its id
            self._image,
            self._command,
            self._options,
            streams=self._how.streams,
            ephemeral=True,
            container_id=started.id,
        )[1]
        return launch_error(plan, event)

    def _result(
        self, collected: Collected, event: packets.Event | None, started: Started
    ) -> Result[bytes]:
        assert self._image is not None
        argv: Any = started.plan.child[-1].arena[1]
        return Result(
            stdout=collected.stdout,
            stderr=collected.stderr,
            exit=exit_of(event),
            truncated=collected.truncated,
            duration=duration_of(event),
            usage=usage_of(event),
            image_digest=self._image.digest,
            argv=argv if isinstance(argv, tuple) else (),
        )
