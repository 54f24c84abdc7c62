"""What goes on in a container: more commands, its terminal and input, its log.

Owns the signatures and their text; each method is one call of the module that does it: `execute`,
`attach`, ``stdio.logs``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from os import PathLike
from typing import TYPE_CHECKING, Literal, overload

from containerkit.runtime import nested
from containerkit.runtime import status as words
from containerkit.runtime.verbs import Verbs
from containerkit.state import events, userns

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from containerkit.launch.execute import ExecBase
    from containerkit.model.exit import Exit
    from containerkit.model.options import Command
    from containerkit.model.result import Result
    from containerkit.runtime.execute import Target
    from containerkit.runtime.facts import Given
    from containerkit.runtime.process import Process
    from containerkit.runtime.records import Row
    from containerkit.runtime.redirect import StreamLike
    from containerkit.stdio.entry import LogEntry
    from containerkit.stdio.logs import Logs

_MAX_OUTPUT = 64 << 20


class Inside(Verbs):
    """The part of `Container` that talks with what runs in it."""

    __slots__ = ()

    @overload
    def exec(
        self,
        command: Command,
        *,
        input: bytes | None = None,
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        check: bool = False,
        timeout: float | None = None,
        max_output: int | str | None = _MAX_OUTPUT,
        on_output: Callable[[LogEntry], object] | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Result[bytes]: ...

    @overload
    def exec(
        self,
        command: Command,
        *,
        input: str | None = None,
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        check: bool = False,
        timeout: float | None = None,
        max_output: int | str | None = _MAX_OUTPUT,
        on_output: Callable[[LogEntry], object] | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Result[str]: ...

    @overload
    def exec(
        self,
        command: Command,
        *,
        input: str | None = None,
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: bool = False,
        encoding: str,
        errors: str | None = None,
        check: bool = False,
        timeout: float | None = None,
        max_output: int | str | None = _MAX_OUTPUT,
        on_output: Callable[[LogEntry], object] | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Result[str]: ...

    @overload
    def exec(
        self,
        command: Command,
        *,
        input: bytes | str | None = None,
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: bool,
        encoding: str | None = None,
        errors: str | None = None,
        check: bool = False,
        timeout: float | None = None,
        max_output: int | str | None = _MAX_OUTPUT,
        on_output: Callable[[LogEntry], object] | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Result[bytes] | Result[str]: ...

    def exec(
        self,
        command: Command,
        *,
        input: bytes | str | None = None,  # noqa: A002  (subprocess.run's name for it)
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        check: bool = False,
        timeout: float | None = None,
        max_output: int | str | None = _MAX_OUTPUT,
        on_output: Callable[[LogEntry], object] | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Result[bytes] | Result[str]:
        """Run a command in the running container, to its end and that of all it has started.

        Args:
            command: a text is given to the image's shell; the entrypoint plays no part.
            input: what it reads; without, its input is empty.
            stdin: a file to read instead: open, or its descriptor.  What is given can be opened anew
                inside, with the rights that its user has there.
            stdout: a file to write to, or `subprocess.DEVNULL`; the result's is empty then.
            stderr: as *stdout*, or `subprocess.STDOUT`: to where that goes, in order.
            text: give str instead of bytes; UTF-8, what is none is replaced.
            encoding: text in another encoding.
            errors: how text is decoded that is none, as "strict" (codecs).
            check: raise `ProcessFailed` unless it ends with code 0.
            timeout: seconds of running; past them all that it started is killed.  Should its
                launcher be stopped, that is left to it when it goes on.
            max_output: bytes kept of each stream; the rest is read and dropped.
            on_output: is given each line as it comes, in this thread.
            env: added to the container's; None removes a name.
            workdir: absolute, and there; the container's otherwise.
            user: "name", "uid", "name:group", "uid:gid"; the container's otherwise.
            tty: give it a terminal; all output is ``stdout`` then.
            privileged: all capabilities that both the container's launcher and this process have, no
                filter of system calls; otherwise it has no more than the container.

        Raises:
            CommandNotFound, NotExecutable, LaunchError: it could not be started.
            InvalidStatus: the container does not run, or is paused.
            ConfigError: an argument has no meaning.
            Timeout: it ran too long; the error's ``result`` holds what it said.
            ProcessFailed: ``check`` was asked for.

        Blocking: until its first process has ended and everything else of it is dead; interrupted, it
        is killed.
        """
        from containerkit.launch.execute import ExecRequest
        from containerkit.model.coding import coding_of
        from containerkit.runtime.execute import exec_
        from containerkit.runtime.running import exchange

        how = exchange(
            input=input,
            streams=(stdin, stdout, stderr),
            coding=coding_of(text=text, encoding=encoding, errors=errors),
            tty=tty,
            check=check,
            timeout=timeout,
            max_output=max_output,
            on_output=on_output,
        )
        request = ExecRequest(command, env, workdir, user, tty, privileged, how.streams)
        return exec_(self._target(how.deadline()), request, how)

    @overload
    def popen(
        self,
        command: Command,
        *,
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Process[bytes]: ...

    @overload
    def popen(
        self,
        command: Command,
        *,
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Process[str]: ...

    @overload
    def popen(
        self,
        command: Command,
        *,
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: bool = False,
        encoding: str,
        errors: str | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Process[str]: ...

    @overload
    def popen(
        self,
        command: Command,
        *,
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: bool,
        encoding: str | None = None,
        errors: str | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Process[bytes] | Process[str]: ...

    def popen(
        self,
        command: Command,
        *,
        stdin: StreamLike = None,
        stdout: StreamLike = None,
        stderr: StreamLike = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        env: Mapping[str, str | None] | None = None,
        workdir: str | PathLike[str] | None = None,
        user: str | int | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Process[bytes] | Process[str]:
        """Start a command in the running container, and talk with it.

        Args:
            command: a text is given to the image's shell; the entrypoint plays no part.
            stdin: a file to read, or `subprocess.DEVNULL`, instead of a pipe; `Process.stdin` is
                None then, as are the others.
            stdout: a file to write to, or ``DEVNULL``.
            stderr: as *stdout*, or `subprocess.STDOUT`: to where that goes, in order.
            text: streams take and give str instead of bytes, in UTF-8.
            encoding: text in another encoding, which ASCII is a part of.
            errors: how text is decoded that is none; without, it is replaced.
            env: added to the container's; None removes a name.
            workdir: absolute, and there; the container's otherwise.
            user: "name", "uid", "name:group", "uid:gid"; the container's otherwise.
            tty: give it a terminal; all output is ``stdout`` then, and `Process.resize` works.
            privileged: all capabilities that the host can give, no filter of system calls.

        Returns:
            It runs; it is killed when the ``with`` block of it is left, or this process ends.

        Raises:
            CommandNotFound, NotExecutable, LaunchError: it could not be started.
            InvalidStatus: the container does not run, or is paused.
            ConfigError: an argument has no meaning.
        """
        from containerkit.launch.execute import ExecRequest
        from containerkit.model.coding import coding_of
        from containerkit.runtime.execute import popen
        from containerkit.runtime.redirect import redirect_of

        coding = coding_of(text=text, encoding=encoding, errors=errors)
        leads = redirect_of(stdin, stdout, stderr, tty=tty)
        request = ExecRequest(command, env, workdir, user, tty, privileged, leads.sent)
        return popen(self._target(), request, leads, coding)

    def _target(self, deadline: float | None = None, *, told: bool = True) -> Target:
        """Return the container as `runtime.execute` wants it.

        Args:
            deadline: until when its launcher is waited for.
            told: its execs are events.
        """
        self._keeper.require_open()
        from containerkit.runtime.execute import Target

        state = self._read_state()
        base, digest = self._inherited(0 if state is None else state.started_ns, deadline)
        connect = partial(self._connect, state=state)
        pidfd = partial(self._open_pidfd, deadline)
        tree = partial(nested.open_tree_of, self) if base.facts.bare else None
        if not told:
            return Target(base, connect, pidfd, digest, tree, called=self._called)
        tell = partial(events.append, self._keeper.root, "exec", self.id)
        return Target(base, connect, pidfd, digest, tree, tell, self._called)

    def _inherited(self, run: int, deadline: float | None) -> tuple[ExecBase, str]:
        """Return what its execs inherit, and its image: the same for as long as it runs.

        Args:
            run: when it was started.
            deadline: until when its launcher is waited for.
        """
        from containerkit.runtime import facts

        if self._execs is not None and self._execs[0] == run:
            return self._execs[1:]
        row = self._read_row()
        given = facts.given(self._read_pid(deadline))
        base = _base(str(self._keeper.root), row, given)
        self._execs = None if given is None else (run, base, row.image)
        return base, row.image

    def interact(
        self,
        command: Command | None = None,
        *,
        user: str | int | None = None,
        workdir: str | PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
    ) -> Exit:
        """Put the caller's terminal on a shell in the running container, until that has ended.

        Every key goes to it, Ctrl-C too; it has the size of the caller's window, as that changes if
        this is the main thread.  The terminal is as it was afterwards, whatever happens.

        Args:
            command: as `exec`; None: bash where there is one, else sh.
            user: "name", "uid", "name:group", "uid:gid"; the container's otherwise.
            workdir: absolute, and there; the container's otherwise.
            env: added to the container's; None removes a name.

        Returns:
            How it ended.

        Raises:
            ConfigError: standard input is no terminal, or an argument has no meaning.
            CommandNotFound, NotExecutable, LaunchError: it could not be started.
            InvalidStatus: the container does not run, or is paused.

        Blocking: until it has ended; interrupted, it is killed.
        """
        from containerkit.runtime.interact import SHELL, interacting, require_terminal
        from containerkit.stdio.waiting import drive

        require_terminal()
        words = SHELL if command is None else command
        with self.popen(words, user=user, workdir=workdir, env=env, tty=True) as process:
            return drive(interacting(process))

    def attach(self) -> Process[bytes]:
        """Return its first process's streams as a `Process`.

        What it says from now on is in ``stdout`` and ``stderr``, with a terminal all in ``stdout``;
        before `start` nothing is lost.  ``stdin`` is there with the option ``stdin_open``, or with a
        terminal.  Closing it, or leaving its ``with`` block, detaches and ends nothing; ``kill`` and
        ``send_signal`` are the container's own.

        Raises:
            InvalidStatus: it has ended, or was removed.
            ConfigError: it keeps no log.
            EngineClosed: its engine was closed.
        """
        from containerkit.runtime.attach import Attached

        self._keeper.require_open()
        return Attached(self)

    def logs(
        self,
        *,
        follow: bool = False,
        since: datetime | float | timedelta | None = None,
        until: datetime | float | timedelta | None = None,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
        timeout: float | None = None,
    ) -> Logs:
        """Return an iterator over the lines of its log, closed by ``with`` or at its end.

        Each is a `LogEntry`: its time, its stream, its bytes with their newline.

        Args:
            follow: go on with what it writes from now on, until it has ended for good; one that was
                not started yet is waited for.
            since: leave out what it wrote before: a time, seconds since 1970, or so long ago.
            until: leave out what it wrote after; following ends then.
            tail: begin with so many of the last lines.
            stdout: with standard output; of a terminal: with all that it shows.
            stderr: with standard error.
            timeout: seconds to wait for the next entry with *follow*; past them the iterator raises
                `Timeout`, and may be iterated on.  None: for ever.

        Raises:
            InvalidStatus: it was removed.
            ConfigError: a time or number is none.

        Blocking: with *follow*, while it is iterated; another thread may close it.
        """
        from containerkit.runtime.following import Following
        from containerkit.stdio.logs import Logs

        self._require("read the log of", *words.STATUSES[:-1])
        try:
            return Logs(
                self._directory,
                follow=Following(self) if follow else None,
                since=since,
                until=until,
                tail=tail,
                stdout=stdout,
                stderr=stderr,
                timeout=timeout,
            )
        except OSError as error:  # removed since
            if error.errno != errno.ENOENT:
                raise
            raise self._refusal("read the log of", "removed", *words.STATUSES[:-1]) from None

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


@lru_cache(maxsize=256)
def _base(root: str, row: Row, given: Given | None) -> ExecBase:
    """Return what execs inherit of a container: its row says it, and never changes but in limits."""
    from pathlib import Path

    from containerkit.launch.bare import is_in_place
    from containerkit.launch.execute import ExecBase
    from containerkit.runtime import facts, idranges
    from containerkit.runtime.birth import Kept

    kept = Kept.of(row)
    host = facts.of_caller(given)
    files = facts.accounts_of(Path(root), kept.rootfs, bare=host.bare)
    # An ordinary user has all of them in its own user namespace, where the container is.
    own = host.capabilities if userns.is_needed() else facts.capabilities()
    return ExecBase(
        row.id,
        kept.config,
        kept.options,
        host,
        files.passwd,
        files.group,
        privileges=host.capabilities & own,
        ids=idranges.ids_of(Path(root) / "containers" / row.id, kept.options.get("security")),
        in_place=host.bare and is_in_place(kept.rootfs),
    )
