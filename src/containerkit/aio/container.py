"""A container, in the asyncio face: its live properties, its verbs, what goes on inside.

Owns nothing: bounded calls go to a thread of the engine, unbounded waits run on the loop over the
generators of the blocking handle.  Properties are read in place, as they are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from os import PathLike
from re import Pattern
from typing import IO, TYPE_CHECKING, Any, Self

from containerkit.aio.face import face_of
from containerkit.aio.files import Files
from containerkit.aio.inside import Inside
from containerkit.aio.stream import Stream
from containerkit.runtime import container as blocking
from containerkit.stdio.aiodrive import adrive

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.aio.images import Image
    from containerkit.launch.plan import Plan
    from containerkit.model.exit import Exit
    from containerkit.model.info import ContainerConfig, ContainerInfo
    from containerkit.model.limits import Limits
    from containerkit.model.options import Command
    from containerkit.model.reference import Reference
    from containerkit.model.stats import Stats, Task
    from containerkit.runtime.changes import Change
    from containerkit.runtime.status import Health, Status


@face_of(blocking.Container)
class Container(Inside):
    """A container that was created or started; made by the engine, never by hand."""

    __slots__ = ()

    # ---- what it is

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self._core.id

    @property
    def status(self) -> Status:
        """As it is now: created, running, paused, restarting, stopped or removed."""
        return self._core.status

    @property
    def name(self) -> str:
        """Its name; unique in the root, `rename` changes it."""
        return self._core.name

    @property
    def image(self) -> str:
        """What its image was called when it was created; "host" for the host's own programs."""
        return self._core.image

    @property
    def image_digest(self) -> str:
        """Digest of the manifest of its image."""
        return self._core.image_digest

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels: those of the image and its own."""
        return self._core.labels

    @property
    def config(self) -> ContainerConfig:
        """What it was created with: command and options; `update` changes limits."""
        return self._core.config

    @property
    def pid(self) -> int | None:
        """Its first process's id, as this process sees it; None when it does not run."""
        return self._core.pid

    @property
    def exit(self) -> Exit | None:
        """How it ended last; None while it runs, and when it never did."""
        return self._core.exit

    @property
    def health(self) -> Health | None:
        """What its health check says: starting, healthy, unhealthy; None without one."""
        return self._core.health

    @property
    def created(self) -> datetime:
        """When it was created."""
        return self._core.created

    @property
    def started(self) -> datetime | None:
        """When it was started last; None for one that never was, or was removed."""
        return self._core.started

    @property
    def finished(self) -> datetime | None:
        """When it ended last; None while it runs, when it never did, or was removed."""
        return self._core.finished

    @property
    def restarts(self) -> int:
        """How often its restart policy has started it again since it was started."""
        return self._core.restarts

    @property
    def ports(self) -> Mapping[str, tuple[str, int]]:
        """Where its published ports are: ("127.0.0.1", 8080) by "80/tcp"; empty without networks."""
        return self._core.ports

    @property
    def addresses(self) -> Mapping[str, str]:
        """Its own addresses by network; empty without networks."""
        return self._core.addresses

    async def inspect(self) -> ContainerInfo:
        """Return all of it as it is at one moment."""
        return await self._workers.call(self._core.inspect)

    # ---- what is done to it

    async def start(self) -> None:
        """Start it, for the first time or again; an owner's container is this process's from now on."""
        await self._workers.call(self._core.start, undo=lambda _: self._core.stop(grace=0))

    async def stop(self, *, grace: float | None = None) -> None:
        """Ask it to end, then kill it; stopping one that has ended is harmless."""
        await adrive(self._core._waiting_stopped(grace=grace))

    async def kill(self, signal: str | int = "KILL") -> None:
        """Send a signal to its first process."""
        await adrive(self._core._waiting_killed(signal))

    async def restart(self, *, grace: float | None = None) -> None:
        """Stop it and start it again."""
        if self._core._look().is_live:
            await self.stop(grace=grace)
        await self.start()

    async def pause(self) -> None:
        """Freeze all its processes; what they hold stays."""
        await self._workers.call(self._core.pause, undo=lambda _: self._core.unpause())

    async def unpause(self) -> None:
        """Let its processes go on."""
        await self._workers.call(self._core.unpause)

    async def wait(self, timeout: float | None = None) -> Exit:
        """Wait until it has ended for good; a restart policy's restarts are not its end."""
        return await adrive(self._core._waiting(timeout=timeout))

    async def rename(self, name: str) -> None:
        """Give it another name."""
        await self._workers.call(lambda: self._core.rename(name))

    async def update(self, *, limits: Limits) -> None:
        """Change its limits, now and for later starts."""
        await self._workers.call(lambda: self._core.update(limits=limits))

    async def remove(self, *, force: bool = False, keep_volumes: bool = False) -> None:
        """Remove it with all it has written; doing it twice is harmless."""
        await self._workers.call(lambda: self._core.remove(force=force, keep_volumes=keep_volumes))

    # ---- what is seen of it

    async def stats(self) -> Stats:
        """Return what it uses at this moment."""
        return await self._workers.call(self._core.stats)

    def watch_stats(self, interval: float = 1.0) -> Stream[Stats]:
        """Iterate over what it uses, one value an interval, until it ends; also a context manager."""
        return Stream(self._core.watch_stats(interval))

    async def top(self) -> tuple[Task, ...]:
        """Return its processes, the first one first; those that execs started are among them."""
        return await self._workers.call(self._core.top)

    async def wait_ready(
        self,
        *,
        port: int | str | None = None,
        log: str | Pattern[str] | None = None,
        times: int = 1,
        http: str | None = None,
        command: Command | None = None,
        healthy: bool = False,
        timeout: float = 60,
        interval: float = 0.05,
    ) -> Self:
        """Wait until all that is given holds, and return itself."""
        await adrive(
            self._core._waiting_ready(
                port=port,
                log=log,
                times=times,
                http=http,
                command=command,
                healthy=healthy,
                timeout=timeout,
                interval=interval,
            )
        )
        return self

    @property
    def files(self) -> Files:
        """Its files: read, written, copied, archived; whether it runs or not."""
        return Files(self._core.files, self._workers)

    async def diff(self) -> tuple[Change, ...]:
        """Return what it changed in its image's files, in the order of paths."""
        return await self._workers.call(self._core.diff)

    async def commit(
        self,
        reference: str | Reference | None = None,
        *,
        message: str = "",
        author: str = "",
        changes: str | Sequence[str] = (),
    ) -> Image:
        """Make an image of it: its image's layers, and one more of what it changed in its files."""
        from containerkit.aio.images import Image

        made = await self._workers.call(
            lambda: self._core.commit(reference, message=message, author=author, changes=changes)
        )
        return Image(made, self._workers)

    async def export(
        self, file: str | PathLike[str] | IO[bytes], *, max_size: int | str | None = None
    ) -> None:
        """Write all its files as one tar, without what is mounted over its root."""
        await self._workers.call(lambda: self._core.export(file, max_size=max_size))

    def address(self, port: int | str, *, network: str | None = None) -> tuple[str, int]:
        """Return where this process can connect to one of its ports: (host, port)."""
        return self._core.address(port, network=network)

    async def plan(self) -> Plan:
        """Return the plan that starting it follows; ``print(container.plan().explain())``."""
        return await self._workers.call(self._core.plan)

    # ---- identity

    def __eq__(self, other: object) -> bool:
        return self._core == other._core if isinstance(other, Container) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._core)

    def __reduce__(self) -> tuple[Any, ...]:
        from containerkit.aio.engine import container_of

        return container_of, self._core.__reduce__()[1]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._workers.call(lambda: self._core.__exit__(None, None, None))

    def __repr__(self) -> str:
        return repr(self._core)

    def _row_of_table(self) -> dict[str, object]:
        return self._core._row_of_table()

    def _repr_html_(self) -> str:
        return self._core._repr_html_()
