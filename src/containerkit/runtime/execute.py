"""Commands in a running container: planned, sent to the launcher that runs it, collected.

Owns: the pipes and the channel of an exec until it has ended, or a `Process` has them; the root's passwd
and group.  Must not: know how a container is stored (`inside` does), or what an exec may do (`launch`).

The launcher ends everything an exec has started as soon as its first process has ended, when the
time is over, and when its caller goes: this process's end closes the channel.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from containerkit.errors import InvalidStatus, Timeout, refusals
from containerkit.launch.execute import ExecBase, ExecRequest, exec_plan
from containerkit.model.coding import needs_lines
from containerkit.model.result import Result
from containerkit.runtime import packets
from containerkit.runtime.alive import pid_of
from containerkit.runtime.channel import unanswered
from containerkit.runtime.ends import duration_of, exit_of, usage_of
from containerkit.runtime.failure import launch_error
from containerkit.runtime.inputs import close, close_all, duplicated, hand_over
from containerkit.runtime.process import Ends, Process
from containerkit.runtime.rootfiles import read_account
from containerkit.runtime.terminal import both_ways, typed
from containerkit.stdio.collect import collect
from containerkit.stdio.waiting import Waiting, drive, until_readable

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan
    from containerkit.model.coding import Coding
    from containerkit.runtime.channel import Channel
    from containerkit.runtime.redirect import Redirect
    from containerkit.runtime.running import Exchange
    from containerkit.stdio.collect import Collected

START_SECONDS: Final = 120.0
"""How long what is started to be talked with may take to begin, where it has no time of its own."""

_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Connect(Protocol):
    """Sends a request about a container to the launcher that runs it."""

    def __call__(
        self, kind: int, *, values: Sequence[int] = (), body: bytes = b"", fds: Sequence[int] = ()
    ) -> Channel:
        """Return the channel that it answers on.

        Raises:
            InvalidStatus: nothing runs it.
        """


@attrs.frozen
class Target:
    """A container to execute in.

    Args:
        base: what an exec inherits.
        connect: the way to its launcher.
        open_pidfd: returns a pidfd of its first process, the caller's to close; -1: none runs.
        image_digest: for results.
        open_tree: returns a descriptor of its root, where that is not found by its process.
        called: returns what messages call it.
        tell: called once the launcher has been asked for an exec: it is an event.
    """

    base: ExecBase
    connect: Connect
    open_pidfd: Callable[[], int]
    image_digest: str = ""
    open_tree: Callable[[], int] | None = None
    tell: Callable[[], object] = lambda: None
    called: Callable[[], str] = lambda: "that was given"


class Exec:
    """A command run to its end in a running container.

    Life: made; begun once; waited for once, or abandoned.

    Args:
        target: the container.
        request: the command, and what it may choose; its streams are those of *how*.
        how: its input, output and time.

    Raises:
        ConfigError, MissingFeature: see `exec_plan`.
    """

    __slots__ = ("_channel", "_how", "_ours", "_plan", "_target", "_tty")

    def __init__(self, target: Target, request: ExecRequest, how: Exchange) -> None:
        self._target = target
        self._how = how
        self._tty = request.tty
        self._plan = planned(target, request)
        self._ours: dict[str, int] = {}
        self._channel: Channel | None = None

    def begin(self) -> Exec:
        """Have the launcher start it.

        Raises:
            InvalidStatus: the container does not run.
        """
        if self._tty:
            self._channel = send(self._target, self._plan, (), quiet=False)
            self._target.tell()
            return self
        self._ours, theirs = self._how.leads.make()
        try:
            fds = [theirs[item.kind] for item in self._plan.inputs]
            self._channel = send(self._target, self._plan, fds, quiet=True)
        except BaseException:
            close_all(self._ours.values())
            raise
        finally:
            close_all(theirs.values())
        self._target.tell()
        return self

    def waiting(self) -> Waiting[Result[Any]]:
        """Wait until all that it started is dead; interrupted, see to that.

        Raises:
            LaunchError: it did not start.
            InvalidStatus: the container is paused, or has ended meanwhile.
            Timeout, ProcessFailed: see `Exchange.judge`.
        """
        channel, self._channel = self._channel, None
        assert channel is not None
        collected = None
        try:
            if self._tty:
                deadline = self._how.deadline()
                _pid, master = yield from starting(self._target, self._plan, channel, deadline)
                self._ours = both_ways(master)
            collected = yield from self._collect(channel)
        finally:
            if collected is None:  # interrupted: whatever is still running is killed
                yield from channel.finishing()
            else:  # a launcher that has not answered yet takes it for a kill
                channel.close()
        event = packets.parse_event(collected.exit_packet or b"")
        if event is not None and event.kind == packets.FAILED:
            raise failure(self._target, self._plan, event)
        return self._how.judge(self._result(collected, event), timed_out=collected.timed_out)

    def _collect(self, channel: Channel) -> Waiting[Collected]:
        how, ours = self._how, self._ours
        data = bytes(how.data or b"")
        return (
            yield from collect(
                exit_channel=channel.fileno(),
                stdin=ours.get("stdin"),
                stdout=ours.get("stdout"),
                stderr=ours.get("stderr"),
                data=typed(data) if self._tty else data,
                max_output=how.max_output,
                on_output=how.on_output,
                deadline=how.deadline(),
                close=close,
                kill=channel.kill_late,
            )
        )

    def abandon(self) -> None:
        """End one that was begun and will not be waited for.

        Blocking: until nothing is left of it.
        """
        channel, self._channel = self._channel, None
        if channel is not None:
            close_all(self._ours.values())
            channel.finish()

    def _result(self, collected: Collected, event: packets.Event | None) -> Result[bytes]:
        return Result(
            stdout=collected.stdout,
            stderr=collected.stderr,
            exit=exit_of(event),
            truncated=collected.truncated,
            duration=duration_of(event),
            usage=usage_of(event),
            image_digest=self._target.image_digest,
            argv=argv_of(self._plan),
        )


def exec_(target: Target, request: ExecRequest, how: Exchange) -> Result[Any]:
    """Run a command in a running container to its end; see `Exec`.

    Blocking: until everything that it started is dead.
    """
    return drive(Exec(target, request, how).begin().waiting())


def popen(
    target: Target, request: ExecRequest, leads: Redirect, coding: Coding | None
) -> Process[Any]:
    """Start a command in a running container; it runs when this returns.

    Args:
        target: the container.
        request: the command; its streams are those that *leads* sends.
        leads: where its streams lead, without a terminal.
        coding: of text; None: bytes.

    Raises:
        LaunchError: it did not start.
        InvalidStatus: the container does not run, or is paused.
        Timeout: it has not begun after `START_SECONDS`: the container keeps it from it.
    """
    return drive(opening(target, request, leads, coding))


def opening(
    target: Target, request: ExecRequest, leads: Redirect, coding: Coding | None
) -> Waiting[Process[Any]]:
    """Do `popen`, in whichever face; interrupted, nothing is left of it."""
    needs_lines(coding)
    plan = planned(target, request)
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    if not request.tty:
        ours, theirs = leads.make()
    try:
        try:
            fds = [theirs[item.kind] for item in plan.inputs]
            channel = send(target, plan, fds, quiet=False)
        finally:
            close_all(theirs.values())
        try:
            latest = time.monotonic() + START_SECONDS
            pid, master = yield from starting(target, plan, channel, latest)
            ends = Ends(**ours) if master < 0 else _ends_of(master)
        except BaseException:
            channel.finish()
            raise
    except BaseException:
        close_all(ours.values())
        raise
    target.tell()
    hand_over(ours.values())
    argv = argv_of(plan)
    return Process(
        channel, ends, pid=pid, coding=coding, argv=argv, image_digest=target.image_digest
    )


def _ends_of(master: int) -> Ends:
    ours = both_ways(master)
    try:
        return Ends(ours["stdin"], duplicated(master), -1, master)
    except BaseException:
        for fd in ours.values():
            os.close(fd)
        raise


# ---- what both have in common


def planned(target: Target, request: ExecRequest) -> Plan:
    """Return the plan of an exec; under a user of its own, that of the running root's files.

    Raises:
        ConfigError, MissingFeature: see `exec_plan`.
        InvalidStatus: the container does not run.
    """
    base = target.base
    if request.user is not None:
        root = _open_root(target)
        try:
            base = attrs.evolve(
                base,
                passwd=read_account(root, "/etc/passwd"),
                group=read_account(root, "/etc/group"),
            )
        finally:
            os.close(root)
    return exec_plan(base, request)


@refusals("open the files of the container")
def _open_root(target: Target) -> int:
    """Return a descriptor of the container's running root.

    Raises:
        InvalidStatus: it does not run.
    """
    if target.open_tree is not None:
        return target.open_tree()
    pidfd = target.open_pidfd()
    if pidfd < 0:
        raise _refusal(target)
    try:
        fd = os.open(f"/proc/{pid_of(pidfd)}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _refusal(target) from None
    else:
        if not drive(until_readable(pidfd, 0)):
            return fd
        os.close(fd)  # it may be another process's
        raise _refusal(target)
    finally:
        os.close(pidfd)


def argv_of(plan: Plan) -> tuple[str, ...]:
    """Return what an exec's plan executes."""
    argv = plan.child[-1].arena[1]
    return argv if isinstance(argv, tuple) else ()


def send(target: Target, plan: Plan, fds: Sequence[int], *, quiet: bool) -> Channel:
    """Send an exec to the launcher that runs the container; return its channel.

    Args:
        target: the container.
        plan: what to execute.
        fds: for its inputs; they stay the caller's to close.
        quiet: the launcher does not say when it has started.

    Raises:
        InvalidStatus: the container does not run.
    """
    data = plan.encode()
    try:
        if len(data) <= packets.PLAN_INLINE:
            return target.connect(packets.EXEC, values=(0, quiet), body=data, fds=fds)
        return _send_large(target, data, fds, quiet=quiet)
    except InvalidStatus as error:
        raise _refusal(target, error.status) from None


@refusals("hand over a large plan")
def _send_large(target: Target, data: bytes, fds: Sequence[int], *, quiet: bool) -> Channel:
    memfd = os.memfd_create("plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(memfd, "wb", closefd=False) as file:
            file.write(data)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, _SEALS)
        return target.connect(packets.EXEC, values=(1, quiet), fds=(*fds, memfd))
    finally:
        os.close(memfd)


def starting(
    target: Target, plan: Plan, channel: Channel, deadline: float | None = None
) -> Waiting[tuple[int, int]]:
    """Wait until an exec runs.

    Returns:
        Its pid as this process sees it, and its terminal's master or -1.

    Raises:
        LaunchError: it did not start.
        InvalidStatus: the container is paused, or has ended.
        Timeout: nothing was heard until the deadline.
    """
    if not (yield from until_readable(channel.fileno(), deadline)):
        raise unanswered() if channel.is_unheard() else _unstarted(target)
    event, fds = channel.receive()
    if event is not None and event.kind == packets.STARTED and fds:
        try:
            pid = pid_of(fds[0])
        except BaseException:
            for fd in fds[1:]:
                os.close(fd)
            raise
        finally:
            os.close(fds[0])
        return pid, fds[1] if len(fds) > 1 else -1
    for fd in fds:
        os.close(fd)
    if event is None or event.kind != packets.FAILED:
        raise _refusal(target)
    raise failure(target, plan, event)


def _unstarted(target: Target) -> Timeout:
    return Timeout(
        f"cannot execute in container {target.called()}: it has not begun in time",
        hint="a process of the container may have stopped it (SIGSTOP)",
        result=None,
    )


def failure(target: Target, plan: Plan, event: packets.Event) -> Exception:
    """Return the exception for an exec that did not start."""
    if event.code == 0 and event.errnum == errno.ESRCH:
        return _refusal(target)
    if event.code == 0 and event.errnum == errno.EBUSY:
        return _refusal(target, "paused")
    return launch_error(plan, event)


def _refusal(target: Target, status: str = "stopped") -> InvalidStatus:
    return InvalidStatus(
        f"cannot execute in container {target.called()}: it is {status}",
        hint=f"{'unpause' if status == 'paused' else 'start'} it first",
        status=status,
        allowed=("running",),
    )
