"""The containers of a root, in the asyncio face; see `containerkit.runtime.containers`.

Owns: the order in which a start is undone when it is cancelled: what was made is removed first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Literal, Unpack

from containerkit.aio.container import Container
from containerkit.aio.face import Eventual, face_of
from containerkit.aio.images import Image
from containerkit.aio.progress import with_progress
from containerkit.model.html import Listing
from containerkit.runtime import container as blocking_container
from containerkit.runtime import containers as blocking
from containerkit.runtime.signature import READY_SECONDS, with_options
from containerkit.stdio.aiodrive import adrive

if TYPE_CHECKING:
    from containerkit.aio.like import ImageLike
    from containerkit.images import image as blocking_image
    from containerkit.images.host import HostImage
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.model.progress import Progress
    from containerkit.model.ready import Ready
    from containerkit.runtime import status as words
    from containerkit.runtime.containers import Labels
    from containerkit.stdio.threads import Workers

    Tell = Callable[[Progress], object] | None


@face_of(blocking.Containers)
class Containers:
    """The containers of a root that are kept: created or started, by any process."""

    __slots__ = ("_core", "_workers")

    def __init__(self, core: Callable[[], blocking.Containers], workers: Workers) -> None:
        self._core = core
        self._workers = workers

    # ---- make

    @with_options
    def create(
        self,
        image: ImageLike,
        command: Command | None = None,
        *,
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Eventual[Container]:
        """Create a container without starting it; leaving its ``with`` block removes it."""

        def work(tell: Tell) -> blocking_container.Container:
            return self._core().create(plain(image), command, progress=tell, **options)

        return self._eventual(work, None, 0, progress)

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
        """Create a container and start it; see `Engine.start`."""

        def work(tell: Tell) -> blocking_container.Container:
            return self._core().start(plain(image), command, progress=tell, **options)

        return self._eventual(work, ready, timeout, progress)

    @with_options
    def shared(
        self,
        key: str,
        image: ImageLike,
        command: Command | None = None,
        *,
        ready: Ready | None = None,
        timeout: float = READY_SECONDS,
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Eventual[Container]:
        """Start a container for several processes, or join those that use it already."""

        def work(tell: Tell) -> blocking_container.Container:
            return self._core().shared(key, plain(image), command, progress=tell, **options)

        return self._eventual(work, ready, timeout, progress)

    def _eventual(
        self,
        work: Callable[[Tell], blocking_container.Container],
        ready: Ready | None,
        timeout: float,
        progress: Tell,
    ) -> Eventual[Container]:
        async def made() -> Container:
            core = await with_progress(self._workers, work, progress, undo=_unmade)
            if ready is not None:
                try:
                    await adrive(blocking.until_ready(core, ready, timeout))
                except BaseException:
                    await self._workers.call(lambda: _unmade(core))
                    raise
            return Container(core, self._workers)

        return Eventual(made)

    # ---- find

    async def get(self, name: str | Container) -> Container:
        """Return a container of this root."""
        wanted = name._core if isinstance(name, Container) else name
        return self._wrap(await self._workers.call(lambda: self._core().get(wanted)))

    async def list(
        self,
        *,
        all: bool = True,  # noqa: A002  (docker's name for it)
        status: words.Status | Collection[words.Status] | None = None,
        label: Labels = None,
        name: str | None = None,
        image: str | Image | HostImage | None = None,
        lifetime: Literal["owner", "detached"] | None = None,
    ) -> tuple[Container, ...]:
        """Return the containers that all given filters fit, the newest first."""
        wanted: Any = plain(image)
        found = await self._workers.call(
            lambda: self._core().list(
                all=all, status=status, label=label, name=name, image=wanted, lifetime=lifetime
            )
        )
        return Listing(self._wrap(one) for one in found)

    async def prune(self, *, label: Labels = None) -> tuple[str, ...]:
        """Remove the containers that have ended, not those created only; return their ids."""
        return await self._workers.call(lambda: self._core().prune(label=label))

    def _wrap(self, core: blocking_container.Container) -> Container:
        return Container(core, self._workers)

    def __repr__(self) -> str:
        return repr(self._core())


def _unmade(core: blocking_container.Container) -> None:
    """Remove a container that nobody will get, even one that is to outlive this process."""
    if core._undo is None:
        core.remove(force=True)
    else:
        core.__exit__(None, None, None)


def plain(image: ImageLike) -> str | blocking_image.Image | HostImage | None:
    """Return what the blocking face takes."""
    return image._core if isinstance(image, Image) else image
