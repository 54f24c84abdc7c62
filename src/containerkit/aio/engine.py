"""The engine, in the asyncio face: `containerkit.Engine` with a loop to wait on.

Owns: the threads in which bounded work is done, and with them what cancelling means: what was to
be made is unmade before `CancelledError` goes on.  Unbounded waits run on the loop, over the same
generators as the blocking face.  Must not: know anything that the blocking engine does not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from containerkit import engine as blocking
from containerkit.aio.container import Container
from containerkit.aio.containers import Containers, plain
from containerkit.aio.face import Eventual, face_of
from containerkit.aio.images import Image, Images
from containerkit.aio.progress import with_progress
from containerkit.aio.stream import Stream
from containerkit.model.coding import coding_of
from containerkit.model.engine_config import EngineConfig
from containerkit.runtime.lowers import MustCopy
from containerkit.runtime.running import Run, exchange
from containerkit.runtime.signature import READY_SECONDS, with_options
from containerkit.stdio.aiodrive import adrive
from containerkit.stdio.threads import Workers

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.aio.like import ImageLike
    from containerkit.launch.plan import Plan
    from containerkit.model.check import CheckReport
    from containerkit.model.collected import Collected
    from containerkit.model.event import Event, EventFilters
    from containerkit.model.host import HostReport
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.model.progress import Progress
    from containerkit.model.ready import Ready
    from containerkit.model.result import Result
    from containerkit.model.usage import DiskUsage, Pruned
    from containerkit.runtime.containers import Labels
    from containerkit.runtime.recover import Recovered
    from containerkit.runtime.redirect import StreamLike
    from containerkit.stdio.entry import LogEntry
    from containerkit.stdio.logs import Moment

_MAX_OUTPUT = 64 << 20


@face_of(blocking.Engine)
class Engine:
    """An opened root directory.  Make one with `Engine.open`; close it, or use ``with``."""

    def __init__(self, core: blocking.Engine) -> None:
        self._core = core
        self._workers = Workers()

    @classmethod
    def open(
        cls, root: str | os.PathLike[str] | None = None, *, config: EngineConfig | None = None
    ) -> Eventual[Engine]:
        """Open a root directory, creating it when missing, and clear away what a crash left."""

        async def opened() -> Engine:
            workers = Workers(1)
            try:
                core = await workers.call(
                    lambda: blocking.Engine.open(root, config=config),
                    undo=blocking.Engine.close,
                )
            finally:
                await workers.close()
            return cls(core)

        return Eventual(opened)

    # ---- parts

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core.closed

    @property
    def root(self) -> Path:
        """The directory."""
        return self._core.root

    @property
    def images(self) -> Images:
        """The images of this root: pull, get, list, remove, host."""
        return Images(lambda: self._core.images, self._workers)

    @property
    def containers(self) -> Containers:
        """The containers of this root that are kept: create, start, share, get, list, prune."""
        return Containers(lambda: self._core.containers, self._workers)

    def login(self, registry: str, *, username: str, password: str) -> None:
        """Use these credentials for a registry, in this process only."""
        self._core.login(registry, username=username, password=password)

    # ---- run

    @overload
    async def run(
        self,
        image: ImageLike,
        command: Command | None = None,
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
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Result[bytes]: ...

    @overload
    async def run(
        self,
        image: ImageLike,
        command: Command | None = None,
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
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Result[str]: ...

    @overload
    async def run(
        self,
        image: ImageLike,
        command: Command | None = None,
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
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Result[str]: ...

    @overload
    async def run(
        self,
        image: ImageLike,
        command: Command | None = None,
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
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Result[bytes] | Result[str]: ...

    @with_options
    async def run(
        self,
        image: ImageLike,
        command: Command | None = None,
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
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Result[bytes] | Result[str]:
        """Create, start, wait for and remove a container: `subprocess.run` in a container."""
        how = exchange(
            input=input,
            streams=(stdin, stdout, stderr),
            coding=coding_of(text=text, encoding=encoding, errors=errors),
            tty=bool(options.get("tty")),
            check=check,
            timeout=timeout,
            max_output=max_output,
            on_output=on_output,
        )
        run = Run(self._core._runner, command, options, how)

        def begin(tell: Callable[[Progress], object] | None) -> contextlib.ExitStack:
            with contextlib.ExitStack() as stack:
                found = self._core._startable(plain(image), options, tell)
                run.begin(stack.enter_context(found))
                stack.callback(run.abandon)  # nothing, once it is waited for
                return stack.pop_all()

        while True:
            begun = await with_progress(
                self._workers, begin, progress, undo=contextlib.ExitStack.close
            )
            try:
                with contextlib.suppress(MustCopy):
                    return await adrive(run.waiting())
            finally:
                begun.close()

    @with_options
    def start(
        self,
        image: ImageLike,
        command: Command | None = None,
        *,
        ready: Ready | None = None,
        timeout: float = READY_SECONDS,
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Eventual[Container]:
        """Start a container and return its handle; leaving its ``with`` block removes it."""
        return self.containers.start(
            image, command, ready=ready, timeout=timeout, progress=progress, **options
        )

    @with_options
    async def plan(
        self,
        image: ImageLike,
        command: Command | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Plan:
        """Return the plan that `run` would follow; ``print(plan.explain())`` shows every step."""
        return await self._workers.call(lambda: self._core.plan(plain(image), command, **options))

    def events(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        follow: bool = False,
        timeout: float | None = None,
        **filters: Unpack[EventFilters],
    ) -> Stream[Event]:
        """Iterate over what happened in this root, whichever process did it; a context manager."""
        return Stream(
            self._core.events(since=since, until=until, follow=follow, timeout=timeout, **filters)
        )

    # ---- care

    async def recover(self) -> Recovered:
        """Remove what crashed processes left in this root; `open` has done it once."""
        return await self._workers.call(self._core.recover)

    async def gc(self) -> Collected:
        """Remove content that nothing refers to; never what a pull or a container needs."""
        return await self._workers.call(self._core.gc)

    async def prune(self, *, label: Labels = None) -> Pruned:
        """Remove stopped containers, images without a name, and content that nothing refers to."""
        return await self._workers.call(lambda: self._core.prune(label=label))

    async def check(self, *, repair: bool = False) -> CheckReport:
        """Look whether the root holds what its catalog says, byte by byte; it may be in use."""
        return await self._workers.call(lambda: self._core.check(repair=repair))

    async def disk_usage(self) -> DiskUsage:
        """Return how many bytes images, layers, containers and caches take of the disk."""
        return await self._workers.call(self._core.disk_usage)

    async def probe(self) -> HostReport:
        """Look at what this host offers, feature by feature; ``print`` shows it as a table."""
        return await self._workers.call(self._core.probe)

    # ---- life

    async def close(self) -> None:
        """End the containers started through this handle, and let go of the root."""
        try:
            await self._workers.call(self._core.close)
        finally:
            await self._workers.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._core,)

    def __repr__(self) -> str:
        return repr(self._core)


def container_of(root: str, identity: str) -> Container:
    """Return the handle that a pickle stands for; see the blocking face's."""
    return Container(blocking.container_of(root, identity), Workers())


def image_of(root: str, digest: str) -> Image:
    """Return the image that a pickle stands for; see the blocking face's."""
    return Image(blocking.image_of(root, digest), Workers())
