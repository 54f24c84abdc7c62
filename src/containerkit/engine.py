"""The engine: a root directory, opened; what everything else hangs on.

Owns the wiring of the parts and the life of this process's launcher.  No logic of its own: images
are `images`' business, starting is `runtime`'s.  Many processes may open the same root.

Flow: `Engine.run` resolves an image, leases its layers, and hands both to `Runner.run`.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, cast, overload

from containerkit.care.caring import Caring
from containerkit.errors import ConfigError, EngineClosed
from containerkit.images.wiring import Stores
from containerkit.launch.request import check_given
from containerkit.model.engine_config import EngineConfig
from containerkit.runtime.keeper import Keeper, living
from containerkit.runtime.recover import recover
from containerkit.runtime.runner import Runner
from containerkit.runtime.signature import READY_SECONDS, with_options
from containerkit.state import forking as _forking  # noqa: F401  (for its hooks)
from containerkit.state.root import StoreRoot
from containerkit.surface import present

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.images.image import Image
    from containerkit.images.images import Images
    from containerkit.images.like import ImageLike
    from containerkit.launch.plan import Plan
    from containerkit.model.event import EventFilters
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.model.progress import Progress
    from containerkit.model.ready import Ready
    from containerkit.model.result import Result
    from containerkit.runtime.container import Container
    from containerkit.runtime.containers import Containers
    from containerkit.runtime.redirect import StreamLike
    from containerkit.runtime.starts import Startable
    from containerkit.stdio.entry import LogEntry
    from containerkit.stdio.events import Events
    from containerkit.stdio.logs import Moment

_STREAMS = ("stdout", "stderr")
_MAX_OUTPUT = 64 << 20


class Engine(Caring):
    """An opened root directory.  Make one with `Engine.open`; close it, or use ``with``.

    Containers that it started end with it, or with this process, however that ends, unless they are
    detached or shared with others.

    Attributes:
        root: the directory.
    """

    def __init__(self, root: StoreRoot, config: EngineConfig) -> None:
        self.root: Path = root.path
        self._config = config
        self._stores = Stores(
            root,
            mirrors=config.mirrors,
            limits=config.image_limits,
            realms=config.token_realms,
            pace=config.pace(),
            reopen=image_of,
        )
        self._runner = Runner(
            root.path,
            netns_pool=config.netns_pool,
            start_seconds=config.start_timeout,
            classic_overlay=config.classic_overlay,
            copied_layers=config.copied_layers,
        )
        self._keeper = Keeper(self._runner, self._stores, reopen=container_of)
        # Not of the engine: a handle of a container keeps what runs it.
        self._finalizer = weakref.finalize(self._keeper, self._runner.close)
        self._closed = False

    @classmethod
    def open(
        cls, root: str | os.PathLike[str] | None = None, *, config: EngineConfig | None = None
    ) -> Self:
        """Open a root directory, creating it when missing, and clear away what a crash left.

        Args:
            root: the directory; None: ``$CONTAINERKIT_ROOT``, else ``/var/lib/containerkit`` as
                root, else ``$XDG_DATA_HOME/containerkit``.
            config: settings of this handle.

        Raises:
            PermissionDenied: it belongs to somebody else, or can not be made.
            MissingFeature: it is on a network file system.
        """
        store = StoreRoot.open(root)
        recover(store.path)
        return cls(store, config or EngineConfig())

    # ---- parts

    @property
    def images(self) -> Images:
        """The images of this root: pull, get, list, remove, host."""
        self._require_open()
        return self._stores.images

    @property
    def containers(self) -> Containers:
        """The containers of this root that are kept: create, start, share, get, list, prune."""
        from containerkit.runtime.containers import Containers

        self._require_open()
        return Containers(self._keeper, self._startable)

    def login(self, registry: str, *, username: str, password: str) -> None:
        """Use these credentials for a registry, in this process only.

        Without a login, docker's config.json and credential helpers are asked.
        """
        self._stores.logins().login(registry, username=username, password=password)

    # ---- run

    @overload
    def run(
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
    def run(
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
    def run(
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
    def run(
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
    def run(
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
        """Create, start, wait for and remove a container: `subprocess.run` in a container.

        Args:
            image: a reference (pulled when missing), an image, or None for the host's own programs
                and the running Python.
            command: words, or one text for the image's shell; None: the image's own.
            input: what it reads; None: nothing.
            stdin: a file to read instead: open, or its descriptor.  What is given can be opened anew
                inside, with the rights that its user has there.
            stdout: a file to write to, or `subprocess.DEVNULL`; the result's is empty then.
            stderr: as *stdout*, or `subprocess.STDOUT`: to where that goes, in order.
            text: outputs as str, decoded as UTF-8 with replacement; ``input`` likewise.
            encoding: text in another encoding.
            errors: how text is decoded that is none, as "strict" (codecs).
            check: raise `ProcessFailed` unless it ends with code 0.
            timeout: seconds of running; then everything in it is killed.
            max_output: bytes kept of each stream, or a size as "64MiB"; None keeps all.
            on_output: called with every line as it comes, in this thread.
            progress: called with the events of a pull.
            options: see `ContainerOptions`.

        Returns:
            What came of it; any exit code is a result, not an error.

        Raises:
            CommandNotFound, NotExecutable: there is no such command in the image.
            LaunchError: it could not be started; the message names the step.
            ImageNotFound, RegistryError, CorruptContent: the image could not be brought here.
            ConfigError, MissingFeature: an option has no meaning, or not here.
            Timeout: it ran too long; the error's ``result`` holds what it said.
            ProcessFailed: ``check`` was asked for.

        Blocking: until its processes are dead and its files gone; interrupted, it leaves nothing.
        """
        from containerkit.model.coding import coding_of
        from containerkit.runtime.running import Run, exchange

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
        with self._startable(image, options, progress) as what:
            return Run(self._runner, command, options, how).complete(what)

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
        """Start a container and return its handle; leaving its ``with`` block removes it.

        Args:
            image: as in `run`.
            command: as in `run`.
            ready: what to wait for before this returns; None: for the command to run.
            timeout: seconds until it is ready, whatever *ready* says; not given: what *ready* says,
                which is 60 if that does not say it either.
            progress: called with the events of a pull.
            options: see `ContainerOptions`; a detached one is left alone by its ``with`` block.

        Raises:
            AlreadyExists: the name is taken.
            NotReady: it ended before it was ready; its last log lines are in the message.
            Timeout: it was not ready in time.
            The errors of `run`, except `ProcessFailed`.

        Atomicity: failed or interrupted, nothing is left of it.
        """
        return self.containers.start(
            image, command, ready=ready, timeout=timeout, progress=progress, **options
        )

    @with_options
    def plan(
        self,
        image: ImageLike,
        command: Command | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Plan:
        """Return the plan that `run` would follow; ``print(plan.explain())`` shows every step."""
        with self._startable(image, options, None) as what:
            return self._runner.compile(what, command, options, streams=_STREAMS, ephemeral=True)[1]

    @contextmanager
    def _startable(
        self,
        image: ImageLike,
        options: ContainerOptions,
        progress: Callable[[Progress], object] | None,
    ) -> Iterator[Startable]:
        """Find what to start and keep its layers from being removed meanwhile."""
        self._require_open()
        check_given(options)  # before anything is pulled
        if image is None or not (isinstance(image, str) or hasattr(image, "_chain_ids")):
            from containerkit.images.host import host_image

            if image is not None and not hasattr(image, "_rootfs"):
                raise ConfigError(
                    f"image {image!r} is no image", hint='as "alpine:3.20", an Image, or None'
                )
            yield host_image(self.root) if image is None else cast("Startable", image)
            return
        images = self._stores.images
        found = images._ensure(
            cast("str | Image", image),
            pull=options.get("pull", "missing"),
            platform=options.get("platform"),
            progress=progress,
        )
        with images._lease(found):
            yield found

    # ---- life

    def events(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        follow: bool = False,
        timeout: float | None = None,
        **filters: Unpack[EventFilters],
    ) -> Events:
        """Iterate over what happened in this root, whichever process did it; a context manager.

        Args:
            since: a time, seconds since the epoch, or a timedelta ago; None: with *follow* from now
                on, else from the oldest that is kept.
            until: leave out what is later; a follower ends then.
            follow: go on with what comes, until it is closed, by whichever thread.
            timeout: seconds to wait for the next event with *follow*; past them the iterator raises
                `Timeout`, and may be iterated on.  None: for ever.
            filters: kind, container (ids, beginnings of ids, names), image, label; one or several
                of each.

        Raises:
            ConfigError: there is no such kind or time.
        """
        from containerkit.runtime.described import open_events

        self._require_open()
        return open_events(self._keeper, since, until, filters, follow=follow, timeout=timeout)

    def close(self) -> None:
        """End the containers started through this handle, and let go of the root.

        They are removed; detached ones live on, shared ones are left.  Harmless when repeated.

        Blocking: until their processes are dead and their files gone.
        """
        if self._closed:
            return
        self._closed = True
        self._finalizer.detach()
        with contextlib.ExitStack() as stack:  # each, whatever becomes of those before
            stack.callback(self._stores.close)
            stack.callback(self._runner.close)
            stack.callback(self._keeper.close)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def _require_open(self) -> None:
        if self._closed:
            raise EngineClosed(f"cannot use the engine of {self.root}: it is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return opened, (type(self), str(self.root), self._config)

    def __repr__(self) -> str:
        return f"<Engine {self.root}>"


present(Engine)


def opened(kind: type[Engine], root: str, config: EngineConfig) -> Engine:
    """Return the engine that a pickle stands for: the root opened once more, with these settings."""
    return kind.open(root, config=config)


def container_of(root: str, identity: str) -> Container:
    """Return the handle that a pickle stands for, of the engine that has this root open.

    Where none has, one is opened for it; it closes with the last handle, or at exit.
    """
    from containerkit.runtime.container import Container

    return Container(_keeper_of(root), identity)


def image_of(root: str, digest: str) -> Image:
    """Return the image that a pickle stands for; see `container_of`.

    Raises:
        ImageNotFound: it was removed meanwhile.
    """
    from containerkit.model.digest import Digest

    return _keeper_of(root).stores.images._load(Digest.parse(digest), digest)


def _keeper_of(root: str) -> Keeper:
    for keeper in list(living):
        if str(keeper.root) == root and not keeper.closed:
            return keeper
    return Engine.open(root)._keeper
