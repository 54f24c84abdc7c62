"""A process in a container, in the asyncio face: its streams and its end.

Owns: reading and writing without blocking the loop; what is read ahead lies in the blocking
streams, so that both faces see one stream.  Must not: start anything.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from typing import TYPE_CHECKING, AnyStr, Generic, Literal, Self

from containerkit.aio.face import face_of
from containerkit.errors import Timeout
from containerkit.runtime import process as blocking
from containerkit.runtime.process import MaybeNone
from containerkit.stdio import pipes as blocking_pipes
from containerkit.stdio.aiodrive import adrive
from containerkit.stdio.pipes import CHUNK, encoded
from containerkit.stdio.waiting import WRITE, Wait, Waiting, deadline_of

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.model.exit import Exit
    from containerkit.model.result import Result
    from containerkit.stdio.threads import Workers


@face_of(blocking_pipes.Reader)
class Reader(Generic[AnyStr]):
    """One output stream of a process: lines when iterated, what is there by `read1`.

    Once it is closed reading raises ValueError, also in another task that waits in it.
    """

    __slots__ = ("_core",)

    def __init__(self, core: blocking_pipes.Reader[AnyStr]) -> None:
        self._core: blocking_pipes.Reader[AnyStr] = core

    def fileno(self) -> int:
        """The descriptor; what was read ahead is not seen by whoever reads it directly."""
        return self._core.fileno()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core.closed

    @property
    def ended(self) -> bool:
        """Whether the end was read, or it is closed; what was read ahead may be left."""
        return self._core.ended

    async def read(self, size: int = -1) -> AnyStr:
        """Read *size* bytes or characters, fewer only at the end; all that comes by default."""
        self._core.fileno()  # not closed
        self._core._join()
        given = await self._take(size)
        while size > len(given):
            more = await self._take(size - len(given))
            if not more:
                break
            given += more
        return given

    async def read1(self, size: int = CHUNK) -> AnyStr:
        """Read what is there, at most *size* bytes; empty at the end only."""
        core = self._core
        core.fileno()  # not closed
        core._join()
        while True:
            if not core._held:
                await adrive(core._filling())
            given = core._given(min(size, len(core._held)))
            if given or core._ended or size <= 0:
                return given

    async def readline(self, *, timeout: float | None = None) -> AnyStr:
        """Read a line with its newline; the last may have none; empty at the end."""
        core, deadline = self._core, deadline_of(timeout)
        core.fileno()  # not closed
        while (line := core._line()) is None:
            if not await adrive(core._filling(deadline)):
                raise Timeout(f"no whole line came within {timeout} s", result=None)
        return line

    async def readlines(self) -> list[AnyStr]:
        """Read all lines that come, each with its newline."""
        return [line async for line in self]

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    async def _take(self, size: int) -> AnyStr:
        core = self._core
        while not core._ended and (size < 0 or len(core._held) < size):
            await adrive(core._filling())
        return core._given(len(core._held) if size < 0 else min(size, len(core._held)))

    def close(self) -> None:
        """Close it; who still writes gets SIGPIPE, who waits in a read of it ValueError."""
        self._core.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyStr:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line


@face_of(blocking_pipes.Writer)
class Writer(Generic[AnyStr]):
    """The input stream of a process; nothing is held back, so there is nothing to flush.

    Closing it wakes another task that waits in a write of it, with ValueError.
    """

    __slots__ = ("_core",)

    def __init__(self, core: blocking_pipes.Writer[AnyStr]) -> None:
        self._core: blocking_pipes.Writer[AnyStr] = core

    def fileno(self) -> int:
        """The descriptor."""
        return self._core.fileno()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core.closed

    async def write(self, data: AnyStr) -> int:
        """Write all of *data*; return its length.

        Raises:
            ValueError: it is closed, or was meanwhile.
        """
        rest = memoryview(encoded(data, self._core._coding))
        await adrive(self._core._end.within(self._writing(rest)))
        return len(data)

    def _writing(self, rest: memoryview) -> Waiting[bool]:
        interest = ((self._core.fileno(), WRITE),)
        while rest:
            yield Wait(interest)
            # No more than certainly fits: PIPE_BUF bytes do when a pipe is writable (pipe(7)).
            rest = rest[os.write(self._core.fileno(), rest[: select.PIPE_BUF]) :]
        return True

    async def writelines(self, lines: Iterable[AnyStr]) -> None:
        """Write one after the other; no newlines are added."""
        for line in lines:
            await self.write(line)

    def writable(self) -> bool:
        """Return True: it can be written to."""
        return True

    def flush(self) -> None:
        """Do nothing: all that was written is on its way."""

    def close(self) -> None:
        """Close it: the process reads the end of its input."""
        self._core.close()


@face_of(blocking.Process)
class Process(Generic[AnyStr]):
    """A process in a container, made by `Container.popen` or `Container.attach`."""

    __slots__ = ("_core", "_workers", "stderr", "stdin", "stdout")

    def __init__(self, core: blocking.Process[AnyStr], workers: Workers) -> None:
        self._core: blocking.Process[AnyStr] = core
        self._workers = workers
        self.stdin: Writer[AnyStr] | MaybeNone = core.stdin and Writer(core.stdin)
        self.stdout: Reader[AnyStr] | MaybeNone = core.stdout and Reader(core.stdout)
        self.stderr: Reader[AnyStr] | MaybeNone = core.stderr and Reader(core.stderr)

    @property
    def pid(self) -> int:
        """As this process sees it."""
        return self._core.pid

    @property
    def argv(self) -> tuple[str, ...]:
        """What was executed."""
        return self._core.argv

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self._core.exit

    @property
    def returncode(self) -> int | None:
        """Its exit code, 128 + n for signal n; None while it runs."""
        return self._core.returncode

    def poll(self) -> Exit | None:
        """Return how it ended, None while it runs."""
        return self._core.poll()

    async def wait(self, timeout: float | None = None) -> Exit:
        """Wait until it has ended, and everything that it started with it."""
        return await adrive(self._core._waiting(timeout))

    def send_signal(self, signal: str | int) -> None:
        """Send it a signal; one that has ended gets none."""
        self._core.send_signal(signal)

    def kill(self) -> None:
        """Kill it and everything that it started."""
        self._core.kill()

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._core.terminate()

    def resize(self, rows: int, cols: int) -> None:
        """Say how large its terminal's window is; it gets SIGWINCH."""
        self._core.resize(rows, cols)

    async def communicate(
        self,
        input: AnyStr | None = None,  # noqa: A002  (subprocess's name for it)
        timeout: float | None = None,
    ) -> Result[AnyStr]:
        """Write *input* and close it, read all output, wait for the end."""
        return await adrive(self._core._communicating(input, timeout=timeout))

    async def close(self) -> None:
        """Kill it if it runs, with all it has started, and close its streams; harmless when repeated."""
        await self._workers.call(self._core.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        await self.close()
        return False

    def __str__(self) -> str:
        return str(self._core)

    def __repr__(self) -> str:
        return repr(self._core)
