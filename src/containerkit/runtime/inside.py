"""What goes on in a container: more commands, its terminal and input, its log.

Owns the signatures and their text; each method is one call of the module that does it: `execute`,
`attach`, ``stdio.logs``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from containerkit.runtime import status as words
from containerkit.runtime.verbs import Verbs

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from containerkit.model.options import Command
    from containerkit.stdio.entry import LogEntry
    from containerkit.stdio.logs import Logs

_MAX_OUTPUT = 64 << 20


class Inside(Verbs):
    """The part of `Container` that talks with what runs in it."""

    __slots__ = ()

    def exec(
        self,
        command: Command,
        *,
        input: bytes | str | None = None,  # noqa: A002  (subprocess.run's name for it)
        text: bool = False,
        check: bool = False,
        timeout: float | None = None,
        max_output: int | str | None = _MAX_OUTPUT,
        on_output: Callable[[LogEntry], object] | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Any:
        """Run a command in the running container and return its `Result`."""
        raise NotImplementedError

    def popen(
        self,
        command: Command,
        *,
        text: bool = False,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Any:
        """Start a command in the running container and return its `Process`."""
        raise NotImplementedError

    def attach(self) -> Any:
        """Return its first process's streams as a `Process`."""
        raise NotImplementedError

    def logs(
        self,
        *,
        follow: bool = False,
        since: datetime | float | timedelta | None = None,
        until: datetime | float | timedelta | None = None,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> Logs:
        """Return an iterator over the lines of its log, closed by ``with`` or at its end.

        Args:
            follow: go on with what it writes from now on, until it has ended for good; one that was
                not started yet is waited for.
            since: leave out what it wrote before: a time, seconds since 1970, or so long ago.
            until: leave out what it wrote after; following ends then.
            tail: begin with so many of the last lines.
            stdout: with standard output; of a terminal: with all that it shows.
            stderr: with standard error.

        Raises:
            InvalidStatus: it was removed.
            ConfigError: a time or number is none.

        Blocking: with *follow*, while it is iterated.
        """
        from containerkit.runtime.following import Following
        from containerkit.stdio.logs import Logs

        self._require("read the log of", *words.STATUSES[:-1])
        return Logs(
            self._directory,
            follow=Following(self) if follow else None,
            since=since,
            until=until,
            tail=tail,
            stdout=stdout,
            stderr=stderr,
        )

    def log_text(self, tail: int | None = None) -> str:
        """Return what it has written so far, both streams in the order they came.

        Args:
            tail: only so many of the last lines.

        Raises:
            InvalidStatus: it was removed.
        """
        from containerkit.stdio.logs import log_text

        self._require("read the log of", *words.STATUSES[:-1])
        return log_text(self._directory, tail)
