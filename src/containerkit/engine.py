"""The engine: a root directory, opened; what everything else hangs on.

Owns the wiring of the parts and the life of this process's launcher.  No logic of its own: images
are `images`' business, starting is `runtime`'s.  Many processes may open the same root.

Flow: `Engine.run` resolves an image, leases its layers, and hands both to `Runner.run`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, Unpack, cast, overload

from containerkit.errors import ConfigError, MissingFeature, NotReady
from containerkit.runtime.recover import Recovered, recover
from containerkit.runtime.runner import Runner
from containerkit.state.root import StoreRoot

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.images.host import HostImage
    from containerkit.images.image import Image
    from containerkit.images.images import Images
    from containerkit.launch.plan import Plan
    from containerkit.model.collected import Collected
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.model.progress import Progress
    from containerkit.model.result import Result
    from containerkit.registry.client import RegistryClient
    from containerkit.registry.credentials import Credentials
    from containerkit.runtime.container import Container
    from containerkit.runtime.runner import Startable
    from containerkit.stdio.entry import LogEntry

    ImageLike = str | Image | HostImage | None

_STREAMS = ("stdout", "stderr")
_MAX_OUTPUT = 64 << 20

_living: weakref.WeakSet[Engine] = weakref.WeakSet()


class EngineConfig:
    """Settings of one engine handle.

    Args:
        mirrors: registries asked before docker.io, for images that name no registry.
        netns_pool: network namespaces kept ready for starts, 0 to 512; each costs the kernel some
            100 KiB, and a start without one 0.5 ms.
        classic_overlay: mount as on kernels before 6.5, to test that on a later one.
    """

    __slots__ = ("classic_overlay", "mirrors", "netns_pool")

    def __init__(
        self,
        *,
        mirrors: tuple[str, ...] = (),
        netns_pool: int = 32,
        classic_overlay: bool = False,
    ) -> None:
        if not 0 <= netns_pool <= 512:
            raise ConfigError(f"netns_pool {netns_pool} is not from 0 to 512")
        self.mirrors = tuple(mirrors)
        self.netns_pool = netns_pool
        self.classic_overlay = classic_overlay


class Engine:
    """An opened root directory.  Make one with `Engine.open`; close it, or use ``with``.

    Containers started through it end with it, or with this process, however that ends.

    Attributes:
        root: the directory.
    """

    def __init__(self, root: StoreRoot, config: EngineConfig) -> None:
        self.root: Path = root.path
        self._store = root
        self._config = config
        self._guard = threading.Lock()
        self._images: Images | None = None
        self._closers: list[Callable[[], object]] = []
        self._credentials: Credentials | None = None
        self._containers: set[Container] = set()
        self._runner = Runner(
            root.path, netns_pool=config.netns_pool, classic_overlay=config.classic_overlay
        )
        self._finalizer = weakref.finalize(self, self._runner.close)
        self._closed = False
        _living.add(self)

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
        with self._guard:
            if self._images is None:
                self._images = self._wire_images()
            return self._images

    def _wire_images(self) -> Images:
        from containerkit.content.store import ContentStore
        from containerkit.images.images import Images
        from containerkit.snapshots.overlay import Snapshots
        from containerkit.state.catalog import Catalog

        catalog = Catalog(self._store.catalog)
        content = ContentStore(self.root)
        snapshots = Snapshots(self._store, catalog, content)
        self._closers += [catalog.close, snapshots.close]
        return Images(
            self._store,
            catalog,
            content,
            snapshots,
            self._registry_client,
            mirrors=self._config.mirrors,
        )

    def _registry_client(self) -> RegistryClient:
        from containerkit.registry.client import RegistryClient

        client = RegistryClient(self._logins())
        self._closers.append(client.close)
        return client

    def _logins(self) -> Credentials:
        from containerkit.registry.credentials import Credentials

        if self._credentials is None:
            self._credentials = Credentials()
        return self._credentials

    def login(self, registry: str, *, username: str, password: str) -> None:
        """Use these credentials for a registry, in this process only.

        Without a login, docker's config.json and credential helpers are asked.
        """
        self._logins().login(registry, username=username, password=password)

    # ---- run

    @overload
    def run(
        self,
        image: ImageLike,
        command: Command | None = None,
        *,
        input: bytes | None = None,
        text: Literal[False] = False,
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
        text: Literal[True],
        check: bool = False,
        timeout: float | None = None,
        max_output: int | str | None = _MAX_OUTPUT,
        on_output: Callable[[LogEntry], object] | None = None,
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Result[str]: ...

    def run(
        self,
        image: ImageLike,
        command: Command | None = None,
        *,
        input: bytes | str | None = None,  # noqa: A002  (subprocess.run's name for it)
        text: bool = False,
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
            text: outputs as str, decoded as UTF-8 with replacement; ``input`` likewise.
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
        from containerkit.runtime.running import Run, exchange
        from containerkit.stdio.waiting import drive

        how = exchange(
            input=input,
            text=text,
            check=check,
            timeout=timeout,
            max_output=max_output,
            on_output=on_output,
        )
        with self._startable(image, options, progress) as what:
            return drive(Run(self._runner, command, options, how).begin(what).waiting())

    def start(
        self,
        image: ImageLike,
        command: Command | None = None,
        *,
        ready: None = None,
        timeout: float = 60,
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[ContainerOptions],
    ) -> Container:
        """Start a container and return its handle; leaving its ``with`` block removes it.

        Args:
            image: as in `run`.
            command: as in `run`.
            ready: conditions to wait for, in a later version.
            timeout: seconds for them.
            progress: called with the events of a pull.
            options: see `ContainerOptions`.

        Raises:
            The errors of `run`, except `Timeout` and `ProcessFailed`.
        """
        from containerkit.runtime.container import start

        if ready is not None:
            raise MissingFeature(
                f"cannot wait {timeout} s for {ready}: this version of containerkit does not wait"
                " for readiness yet",
                feature="ready",
            )
        with contextlib.ExitStack() as stack:
            what = stack.enter_context(self._startable(image, options, progress))
            container = start(self._runner, what, command, options, self._containers)
            container.keep(stack.pop_all())
        return container

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
        if image is None or not (isinstance(image, str) or hasattr(image, "chain_ids")):
            from containerkit.images.host import host_image

            yield host_image(self.root) if image is None else cast("Startable", image)
            return
        found = self.images.ensure(
            cast("str | Image", image),
            pull=options.get("pull", "missing"),
            platform=options.get("platform"),
            progress=progress,
        )
        with self.images.lease(found):
            yield found

    # ---- care

    def recover(self) -> Recovered:
        """Remove what crashed processes left in this root; `open` has done it once."""
        return recover(self.root)

    def gc(self) -> Collected:
        """Remove content that nothing refers to; never what a pull or a container needs."""
        return self.images.gc()

    def close(self) -> None:
        """End the containers started through this handle, and let go of the root.

        Blocking: until their processes are dead and their files gone.
        """
        if self._closed:
            return
        self._closed = True
        self._finalizer.detach()
        self._runner.close()
        for container in list(self._containers):
            container.abandon()
        while self._closers:
            self._closers.pop()()

    def _forked(self) -> None:
        """In a forked child: a lock may have been held, and the containers are the parent's."""
        self._guard = threading.Lock()
        self._containers = set()

    def _require_open(self) -> None:
        if self._closed:
            raise NotReady(f"cannot use the engine of {self.root}: it is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Engine {self.root}>"


def _forked() -> None:
    for engine in list(_living):
        engine._forked()


os.register_at_fork(after_in_child=_forked)
