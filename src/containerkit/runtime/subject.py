"""A container as `ready` wants to see it.

Owns the translation, and nothing else.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from containerkit.errors import InvalidStatus, Timeout
from containerkit.runtime import packets
from containerkit.runtime.ready import not_ready, until_ready
from containerkit.runtime.watching import Watching
from containerkit.stdio.logs import LogReader, last_lines
from containerkit.stdio.waiting import Waiting, until_readable

if TYPE_CHECKING:
    from containerkit.model.exit import Exit
    from containerkit.model.ready import Ready
    from containerkit.runtime.inside import Inside

_ANSWER_SECONDS: Final = 1.0
"""What a launcher has to answer in, at least: what is looked for may hold already."""


class ContainerSubject:
    """One container, watched."""

    def __init__(self, handle: Inside) -> None:
        self._handle = handle
        self._watching: Watching | None = None

    def ready(self, ready: Ready) -> Waiting[None]:
        """Wait until it is ready; see `until_ready`.

        Raises:
            NotReady: it does not run, or ended.
            InvalidStatus: it was never started, or was removed.
        """
        deadline = time.monotonic() + max(ready.timeout, _ANSWER_SECONDS)
        try:
            channel = self._handle._connect(packets.WATCH)
        except InvalidStatus as refusal:
            if refusal.status == "stopped":
                raise not_ready(self, str(ready)) from None
            raise self._handle._refusal("wait for", self._handle.status, "running") from None
        try:
            if not (yield from until_readable(channel.fileno(), deadline)):
                raise Timeout(
                    f"{self.label} was not ready after {ready.timeout:g} s: its launcher does not"
                    " answer",
                    result=None,
                )
        except BaseException:
            channel.close()
            raise
        self._watching = Watching(channel)
        with self._watching:
            yield from until_ready(ready, self)

    # ---- what `ready` asks

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"container {self._handle._called()}"

    def pid(self) -> int | None:
        """Return its first process's id, None while it has none."""
        return None if self._watching is None else self._watching.pid()

    def health(self) -> str | None:
        """Return what its health check says."""
        return self._handle.health

    def health_said(self) -> str:
        """Return the last line that a probe of its health wrote."""
        try:
            text = (self._handle._directory / "health").read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return (text.strip().splitlines() or [""])[-1]

    def until_ended(self) -> Waiting[bool]:
        """Wait until it has ended for good."""
        assert self._watching is not None
        return self._watching.until_ended()

    def exit(self) -> Exit | None:
        """Return how it ended."""
        return self._handle.exit

    def lines(self) -> LogReader:
        """Follow its log from its last start on."""
        started = self._handle.started
        return LogReader(self._handle._directory, follow=_Life(self._handle), since=started)

    def last_lines(self, count: int) -> tuple[str, ...]:
        """Return the last lines of its log."""
        return last_lines(self._handle._directory, count)

    def probe(self, command: str | tuple[str, ...], seconds: float) -> Waiting[int]:
        """Run a command inside and return its exit code."""
        from containerkit.launch.execute import ExecRequest
        from containerkit.runtime.execute import Exec
        from containerkit.runtime.running import exchange

        how = exchange(
            input=None, coding=None, check=False, timeout=seconds, max_output=0, on_output=None
        )
        result = (
            yield from Exec(
                self._handle._target(how.deadline(), told=False),
                ExecRequest(command, streams=how.streams),
                how,
            )
            .begin()
            .waiting()
        )
        return result.returncode


class _Life:
    """Who writes the log: its record changes in its directory, and an end is the guard's matter."""

    def __init__(self, handle: Inside) -> None:
        self._handle = handle

    def over(self) -> bool:
        return not self._handle._look().is_live

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        """Hold nothing."""
