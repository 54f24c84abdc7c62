"""What goes on in a container, in the asyncio face: more commands, its streams, its log.

A cancelled `exec` kills everything it has started, as one does whose time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, overload

from containerkit.aio.face import Eventual, face_of
from containerkit.aio.process import Process
from containerkit.aio.stream import Stream
from containerkit.launch.execute import ExecRequest
from containerkit.model.coding import coding_of
from containerkit.runtime import container as blocking
from containerkit.runtime.execute import Exec
from containerkit.runtime.interact import SHELL, interacting, require_terminal
from containerkit.runtime.running import exchange
from containerkit.stdio.aiodrive import adrive

if TYPE_CHECKING:
    from containerkit.model.exit import Exit
    from containerkit.model.options import Command
    from containerkit.model.result import Result
    from containerkit.runtime import process as blocking_process
    from containerkit.runtime.redirect import StreamLike
    from containerkit.stdio.entry import LogEntry
    from containerkit.stdio.threads import Workers

_MAX_OUTPUT = 64 << 20


@face_of(blocking.Container)
class Inside:
    """The part of `Container` that talks with what runs in it."""

    __slots__ = ("__weakref__", "_core", "_workers")

    def __init__(self, core: blocking.Container, workers: Workers) -> None:
        self._core = core
        self._workers = workers

    @overload
    async def exec(
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
    async def exec(
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
    async def exec(
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
    async def exec(
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

    async def exec(
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
        """Run a command in the running container, to its end and that of all it has started."""
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
        begun = await self._workers.call(
            lambda: Exec(self._core._target(how.deadline()), request, how).begin(),
            undo=Exec.abandon,
        )
        return await adrive(begun.waiting())

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
    ) -> Eventual[Process[bytes]]: ...

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
    ) -> Eventual[Process[str]]: ...

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
    ) -> Eventual[Process[str]]: ...

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
    ) -> Eventual[Process[bytes]] | Eventual[Process[str]]: ...

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
    ) -> Eventual[Process[bytes]] | Eventual[Process[str]]:
        """Start a command in the running container, and talk with it."""

        def work() -> blocking_process.Process[Any]:
            opened: Any = self._core.popen
            started: blocking_process.Process[Any] = opened(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                text=text,
                encoding=encoding,
                errors=errors,
                env=env,
                workdir=workdir,
                user=user,
                tty=tty,
                privileged=privileged,
            )
            return started

        return self._process(work)

    async def interact(
        self,
        command: Command | None = None,
        *,
        user: str | int | None = None,
        workdir: str | PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
    ) -> Exit:
        """Put the caller's terminal on a shell in the running container, until that has ended."""
        require_terminal()
        words = SHELL if command is None else command
        async with self.popen(words, user=user, workdir=workdir, env=env, tty=True) as process:
            return await adrive(interacting(process._core))

    def attach(self) -> Eventual[Process[bytes]]:
        """Return its first process's streams as a `Process`."""
        return self._process(self._core.attach)

    def _process(self, work: Callable[[], blocking_process.Process[Any]]) -> Eventual[Process[Any]]:
        async def made() -> Process[Any]:
            core = await self._workers.call(work, undo=lambda process: process.close())
            return Process(core, self._workers)

        return Eventual(made)

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
    ) -> Stream[LogEntry]:
        """Return an iterator over the lines of its log, closed by ``with`` or at its end."""
        return Stream(
            self._core.logs(
                follow=follow,
                since=since,
                until=until,
                tail=tail,
                stdout=stdout,
                stderr=stderr,
                timeout=timeout,
            )
        )

    async def log_text(self, tail: int | None = None) -> str:
        """Return what it has written so far, both streams in the order they came."""
        return await self._workers.call(lambda: self._core.log_text(tail))
