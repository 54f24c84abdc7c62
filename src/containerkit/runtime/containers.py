"""The collection ``engine.containers``: create, start, share, get, list, prune.

Owns: what a name, an id or a prefix means, and the filters.  Must not: know the steps of a start.
Neighbours: `engine` makes it; `birth` and `begin` do the work.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack

from containerkit.errors import (
    ConfigError,
    Conflict,
    ContainerNotFound,
    HostError,
    InvalidStatus,
)
from containerkit.model.event import labels_wanted
from containerkit.model.html import Listing
from containerkit.runtime import begin, birth, codec, marks, supervise
from containerkit.runtime import status as words
from containerkit.runtime.container import Container
from containerkit.runtime.signature import READY_SECONDS, Unsaid, with_options
from containerkit.stdio.waiting import Waiting, drive

if TYPE_CHECKING:
    from containerkit.images.host import HostImage
    from containerkit.images.image import Image
    from containerkit.images.like import ImageLike
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.model.progress import Progress
    from containerkit.model.ready import Ready
    from containerkit.runtime.keeper import Keeper
    from containerkit.runtime.records import Row
    from containerkit.runtime.starts import Startable

    Find = Callable[
        [ImageLike, ContainerOptions, Callable[[Progress], object] | None],
        AbstractContextManager[Startable],
    ]

_PREFIX: Final = re.compile(r"[0-9a-f]{1,64}")

Labels = str | Collection[str] | Mapping[str, str | None] | None


class Containers:
    """The containers of a root that are kept: created or started, by any process.

    Args:
        keeper: of the engine.
        find: finds an image and leases its layers meanwhile.
    """

    __slots__ = ("_find", "_keeper")

    def __init__(self, keeper: Keeper, find: Find) -> None:
        self._keeper = keeper
        self._find = find

    # ---- make

    @with_options
    def create(
        self,
        image: ImageLike,
        command: Command | None = None,
        *,
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Container:
        """Create a container without starting it; leaving its ``with`` block removes it.

        Args:
            image: as in `Engine.run`.
            command: as in `Engine.run`.
            progress: called with the events of a pull.
            options: see `ContainerOptions`.

        Raises:
            AlreadyExists: the name is taken.
            ImageNotFound, RegistryError, CorruptContent: the image could not be brought here.
            ConfigError, MissingFeature: an option has no meaning, or not here.
        """
        identity = birth.new_id()
        with self._find(image, options, progress) as what, self._undone(identity):
            born = birth.create(
                self._keeper, what, named(image), command, options, identity=identity
            )
        return self._made(born.row)

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
    ) -> Container:
        """Create a container and start it; see `Engine.start`."""
        identity = birth.new_id()
        keeper = self._keeper
        with self._find(image, options, progress) as what, self._undone(identity):
            mark = marks.owner_mark(keeper.runner.launcher()[0].id)
            with supervise.ahead(keeper, options) as made:
                born = birth.create(
                    keeper, what, named(image), command, options, identity=identity, mark=mark
                )
                with begin.Operation(keeper, identity):
                    begin.begin(keeper, born.row, born=born, made=made)
            container = self._made(born.row)
        if ready is not None:
            _await_ready(container, ready, timeout, container._undo_start)
        return container

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
    ) -> Container:
        """Start a container for several processes, or join those that use it already.

        The last of them that leaves, or dies, ends and removes it.  Leaving the ``with`` block, or
        closing the engine, is leaving it.

        Args:
            key: what they know it by, in this root.
            image: as in `Engine.run`.
            command: as in `Engine.run`.
            ready: what to wait for after starting it; who joins waits for it as well.
            timeout: seconds until it is ready, as for `Engine.start`.
            progress: called with the events of a pull.
            options: see `ContainerOptions`; ``lifetime`` and ``restart`` have no meaning here.

        Raises:
            Conflict: it is there, with another image, command or other options.
            The errors of `start`.
        """
        from containerkit.runtime.shared import share

        with self._find(image, options, progress) as what:
            container = share(self._keeper, key, what, named(image), command, options)
        if ready is not None:
            _await_ready(container, ready, timeout, lambda: container.__exit__(None, None, None))
        return container

    @contextmanager
    def _undone(self, identity: str) -> Iterator[None]:
        """Leave nothing of a container when making it fails or is interrupted."""
        try:
            yield
        except BaseException:
            self._handle(identity).remove(force=True)
            raise

    def _handle(self, identity: str) -> Container:
        return Container(self._keeper, identity)

    def _made(self, row: Row) -> Container:
        """Return the handle of a container that this call has made."""
        container = Container(self._keeper, row.id, row=row)
        container._undo = container._undo_at_exit()
        return container

    # ---- find

    def get(self, name: str | Container) -> Container:
        """Return a container of this root.

        Args:
            name: its name, its id, or digits that only its id begins with; a name wins over digits.

        Raises:
            ContainerNotFound: none is called so.
            Conflict: the digits fit several.
        """
        wanted = name.id if isinstance(name, Container) else str(name)
        records = self._keeper.records
        found = records.named(wanted)
        candidates = [] if found is None else [found]
        if not candidates and _PREFIX.fullmatch(wanted):
            candidates = records.beginning(wanted)
        living = [one for one in candidates if self._handle(one).status != "removed"]
        if not living:
            raise ContainerNotFound(f"cannot find container {wanted}: there is none in this root")
        if len(living) > 1:
            raise Conflict(f"cannot choose container {wanted}: {len(living)} ids begin so")
        return Container(self._keeper, living[0], row=records.get(living[0]))

    def list(
        self,
        *,
        all: bool = True,  # noqa: A002  (docker's name for it)
        status: words.Status | Collection[words.Status] | None = None,
        label: Labels = None,
        name: str | None = None,
        image: str | Image | HostImage | None = None,
        lifetime: Literal["owner", "detached"] | None = None,
    ) -> tuple[Container, ...]:
        """Return the containers that all given filters fit, the newest first.

        Args:
            all: False: only those that run, paused and restarting ones included.
            status: one or several.
            label: "name" or "name=value", several of them, or a mapping whose None fits any value.
            name: a name, or a pattern as "web-*".
            image: what it was called when they were created, the digest of its manifest, or the image.
            lifetime: "owner" or "detached".

        Atomicity: one look at the catalog; one that vanishes meanwhile is left out.
        """
        wanted = _statuses(status, all=all)
        labels = labels_wanted(label)
        images = None if image is None else _images(image)
        found = []
        is_alive, has_owner = cache(self._keeper.is_alive), cache(self._keeper.has_owner)
        for row in self._keeper.records.all():
            if lifetime is not None and row.lifetime != lifetime:
                continue
            if name is not None and not fnmatchcase(row.name, name):
                continue
            if images is not None and images.isdisjoint((row.reference, row.image)):
                continue
            if labels and not _has(codec.load(row.labels), labels):
                continue
            container = Container(self._keeper, row.id, row=row)
            word = container._look(is_alive, has_owner).status
            if word in wanted:
                found.append(container)
            elif marks.read(self._keeper.directory(row.id)) is None:
                with contextlib.suppress(HostError):
                    birth.drop_orphan(self._keeper, row.id)
        return Listing(found)

    def prune(self, *, label: Labels = None) -> tuple[str, ...]:
        """Remove the containers that have ended, not those created only; return their ids.

        Args:
            label: only those with it, see `list`.
        """
        gone = []
        for container in self.list(status="stopped", label=label):
            try:
                container.remove()
            except InvalidStatus:  # started again meanwhile
                continue
            gone.append(container.id)
        return tuple(gone)

    def __repr__(self) -> str:
        return f"<containers of {self._keeper.root}>"


def _await_ready(
    container: Container, ready: Ready, timeout: float, undo: Callable[[], object]
) -> None:
    try:
        drive(until_ready(container, ready, timeout))
    except BaseException:
        undo()
        raise


def until_ready(container: Container, ready: Ready, timeout: float) -> Waiting[Container]:
    """Wait until a container that was just started is ready, in whichever face."""
    if not hasattr(ready, "port"):
        raise ConfigError(f"ready {ready!r} is no Ready", hint="as Ready(port=6379)")
    return container._waiting_ready(
        port=None if ready.port is None else str(ready.port),
        log=ready.log,
        times=ready.times,
        http=ready.http,
        command=ready.command,
        healthy=ready.healthy,
        timeout=ready.timeout if isinstance(timeout, Unsaid) else timeout,
        interval=ready.interval,
    )


# ---- filters


def named(image: ImageLike) -> str:
    """Return what a caller called an image."""
    if isinstance(image, str):
        return image
    references: Sequence[str] = getattr(image, "references", ())
    if references:
        return references[0]
    return "host" if image is None or not hasattr(image, "_chain_ids") else str(image.digest)


def _statuses(
    status: words.Status | Collection[words.Status] | None,
    *,
    all: bool,  # noqa: A002  (as in `list`)
) -> frozenset[words.Status]:
    known = words.STATUSES[:-1]
    if status is None:
        return frozenset(known if all else words.LIVE)
    given: frozenset[Any] = frozenset([status] if isinstance(status, str) else status)
    if not given <= frozenset(known):
        raise ConfigError(f"status {status!r} is not one of {', '.join(known)}")
    return given


def _has(labels: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    return all(
        name in labels and (value is None or labels[name] == value)
        for name, value in wanted.items()
    )


def _images(image: str | Image | HostImage) -> frozenset[str]:
    if not isinstance(image, str):
        return frozenset({image.digest})
    return frozenset({image})
