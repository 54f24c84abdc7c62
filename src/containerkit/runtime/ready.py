"""Wait until a container is ready, or say at once why it never will be.

Owns: what each condition looks at, how often, and what is said when they do not hold.  Must not:
know a container's handle; it gives a `Subject`.  One generator of waits, for both faces.
Flow: `Container.wait_ready` → here → `listening`, `stdio.logs`, `execute`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final, Protocol

from containerkit.errors import ConfigError, ContainerKitError, NotReady, Timeout
from containerkit.runtime.listening import Listening, ask
from containerkit.stdio.together import together
from containerkit.stdio.waiting import Interest, Wait, Waiting

if TYPE_CHECKING:
    from containerkit.model.exit import Exit
    from containerkit.model.ready import Http, Port, Ready
    from containerkit.stdio.entry import LogEntry

_FIRST_PAUSE: Final = 0.002
_HTTP_SECONDS: Final = 5.0
_LOG_LINES: Final = 10
_LINE_SHOWN: Final = 1000  # characters of a line in a message
_NOTHING: Final[Interest] = ()


class Lines(Protocol):
    """A log that is followed."""

    def take(self) -> Waiting[LogEntry | None]:
        """Return the next entry; None after the last one."""

    def close(self) -> None:
        """Follow no more."""


class Subject(Protocol):
    """What is waited for: a container, as far as readiness is concerned."""

    @property
    def label(self) -> str:
        """How messages call it."""

    def pid(self) -> int | None:
        """Return its first process's id, as this process sees it; None while it has none."""

    def health(self) -> str | None:
        """Return "starting", "healthy", "unhealthy", or None without a health check."""

    def health_said(self) -> str:
        """Return the last line that a probe of its health wrote, "" without."""

    def until_ended(self) -> Waiting[bool]:
        """Wait until it has ended for good."""

    def exit(self) -> Exit | None:
        """Return how it ended."""

    def lines(self) -> Lines:
        """Follow its log from its last start on."""

    def last_lines(self, count: int) -> tuple[str, ...]:
        """Return the last lines of its log."""

    def probe(self, command: str | tuple[str, ...], seconds: float) -> Waiting[int]:
        """Run a command inside, for so many seconds at most, and return its exit code."""


def until_ready(ready: Ready, subject: Subject) -> Waiting[None]:
    """Wait until all conditions have held.

    Raises:
        NotReady: it ended first; the message and `log` hold the last lines of its log.
        Timeout: it did not in time; it goes on running.
        ConfigError: it has no health check, and ``healthy`` was asked for.
    """
    deadline = time.monotonic() + ready.timeout
    state: dict[str, str] = {}
    conditions = list(_conditions(ready, subject, state, deadline))
    if not (yield from together(conditions, guards=[_guard(subject, state)], deadline=deadline)):
        open_ones = "; ".join(f"{what}: {why}" for what, why in state.items())
        lines = subject.last_lines(_LOG_LINES)
        raise Timeout(
            f"{subject.label} was not ready after {ready.timeout:g} s ({open_ones}){_told(lines)}",
            result=None,
            log=lines,
        )


def _guard(subject: Subject, state: dict[str, str]) -> Waiting[None]:
    yield from subject.until_ended()
    raise not_ready(subject, "; ".join(state))


def not_ready(subject: Subject, waited_for: str) -> NotReady:
    """Return the error about a container that is not running, and so will never be ready."""
    end = subject.exit()
    lines = subject.last_lines(_LOG_LINES)
    how = "does not run" if end is None else str(end)
    return NotReady(
        f"{subject.label} {how} before it was ready ({waited_for}){_told(lines)}",
        hint=None if end is None else end.hint,
        exit=end,
        log=lines,
    )


def _told(lines: tuple[str, ...]) -> str:
    if not lines:
        return "; its log is empty"
    shown = [f"{line[:_LINE_SHOWN]}…" if len(line) > _LINE_SHOWN else line for line in lines]
    return "; its log ends with:\n" + "\n".join(shown)


# ---- conditions


def _conditions(
    ready: Ready, subject: Subject, state: dict[str, str], deadline: float
) -> Iterator[Waiting[None]]:
    """Yield a generator for each condition; it takes its line out of *state* when it has held."""
    if ready.port is not None:
        name = f"port {ready.port}"
        yield _held(name, "nobody listens", state, _listening(subject, ready.port, ready.interval))
    if ready.log is not None:
        name = f"log {ready.log.pattern!r}"
        yield _held(name, "no such line", state, _logged(subject, ready, state, name))
    request = ready.request
    if request is not None:
        name = str(request)
        asked = _answered(subject, request, ready.interval, state)
        yield _held(name, "not asked yet", state, asked)
    if ready.command is not None:
        name = f"command {ready.command!r}"
        run = _succeeded(subject, ready.command, ready.interval, deadline, state, name)
        yield _held(name, "has not ended yet", state, run)
    if ready.healthy:
        yield _held("health", "not known", state, _healthy(subject, ready.interval, state))


def _held(name: str, at_first: str, state: dict[str, str], waiting: Waiting[None]) -> Waiting[None]:
    state[name] = at_first
    return _holding(name, state, waiting)


def _holding(name: str, state: dict[str, str], waiting: Waiting[None]) -> Waiting[None]:
    yield from waiting
    state.pop(name, None)


def _pauses(interval: float) -> Iterator[float]:
    """Yield the pauses between looks: short at first, since most are ready soon."""
    pause = min(_FIRST_PAUSE, interval)
    while True:
        yield pause
        pause = min(pause * 2, interval)


def _every(interval: float, look: Callable[[], bool]) -> Waiting[None]:
    pauses = _pauses(interval)
    while not look():
        yield Wait(_NOTHING, time.monotonic() + next(pauses))


def _listening(subject: Subject, port: Port, interval: float) -> Waiting[None]:
    def look() -> bool:
        pid = subject.pid()
        return pid is not None and listening.look(pid)

    with closing(Listening(port)) as listening:
        yield from _every(interval, look)


def _logged(subject: Subject, ready: Ready, state: dict[str, str], name: str) -> Waiting[None]:
    assert ready.log is not None
    found = 0
    with closing(subject.lines()) as lines:
        while found < ready.times:
            entry = yield from lines.take()
            if entry is None:  # the guard says how it ended
                yield from _every(ready.interval, lambda: False)
                return
            text = entry.data.decode("utf-8", "replace").rstrip("\r\n")
            if ready.log.search(text):
                found += 1
                state[name] = f"found {found} of {ready.times} times"


def _answered(
    subject: Subject, request: Http, interval: float, state: dict[str, str]
) -> Waiting[None]:
    pauses = _pauses(interval)
    while True:
        namespace = _network(subject)
        if namespace >= 0:
            try:
                answer = yield from ask(namespace, request, seconds=_HTTP_SECONDS)
            finally:
                os.close(namespace)
            if isinstance(answer, int) and answer < 400:
                return
            state[str(request)] = f"status {answer}" if isinstance(answer, int) else answer
        yield Wait(_NOTHING, time.monotonic() + next(pauses))


def _network(subject: Subject) -> int:
    """Open a container's network namespace; -1 while it has none."""
    pid = subject.pid()
    if pid is None:
        return -1
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    if subject.pid() == pid:  # still: so it was that process's
        return fd
    os.close(fd)
    return -1


def _succeeded(
    subject: Subject,
    command: str | tuple[str, ...],
    interval: float,
    deadline: float,
    state: dict[str, str],
    name: str,
) -> Waiting[None]:
    pauses = _pauses(interval)
    while True:
        seconds = max(0.0, deadline - time.monotonic())
        try:
            code = yield from subject.probe(command, seconds)
        except (ConfigError, NotReady):
            raise
        except ContainerKitError as error:  # not there yet, or between two starts
            state[name] = str(error)
        else:
            if code == 0:
                return
            state[name] = f"ended with code {code}"
        yield Wait(_NOTHING, time.monotonic() + next(pauses))


def _healthy(subject: Subject, interval: float, state: dict[str, str]) -> Waiting[None]:
    def look() -> bool:
        health = subject.health()
        if health is None and subject.pid() is not None:
            raise ConfigError(
                f"{subject.label} has no health check, so that it will never be healthy",
                hint="give it the option healthcheck",
            )
        said = subject.health_said() if health == "unhealthy" else ""
        state["health"] = f"{health or 'not running'}{': ' if said else ''}{said}"
        return health == "healthy"

    yield from _every(interval, look)
