"""Start containers: a resolved image and options in, a running plan out.

Owns: the launcher of one engine in this process, and the descriptors of a start until they are
handed over.  Must not: look up images (`engine` does) or decide what a container gets (`launch`).
Flow: `engine` → here → `launch.compile` → `Launcher.start` → a channel, which `run` collects from
or a `Container` keeps.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from containerkit.errors import EngineClosed, HostError, LaunchError
from containerkit.launch.compile import compile_plan, user_of
from containerkit.launch.identity import resolve_user
from containerkit.launch.presets import default_user, is_strict
from containerkit.launch.request import HostFacts, LaunchRequest, check_options
from containerkit.runtime import facts, helper, nested
from containerkit.runtime.devices import block_devices, device_nodes
from containerkit.runtime.idranges import WHOLE, Ranges, example, noted, wants_range
from containerkit.runtime.inputs import files_among, host_file, open_input
from containerkit.runtime.launcher import Launcher
from containerkit.runtime.lowers import COPY, Loan, Lowers, renamed
from containerkit.runtime.names import check_name
from containerkit.runtime.recover import recover
from containerkit.runtime.repeat import STAND_IN, Repeats, key_of
from containerkit.runtime.starts import LauncherDied, Started
from containerkit.runtime.subordinate import check_own, shape_of
from containerkit.state import userns

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan
    from containerkit.model.idmap import IdMap
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.runtime.starts import Startable
    from containerkit.runtime.subordinate import Shape

_living: weakref.WeakSet[Runner] = weakref.WeakSet()


class Runner:
    """Starts containers of one root, from any thread.

    Args:
        root: the engine's root directory.
        netns_pool: network namespaces that the launcher keeps ready.
        start_seconds: how long a start may take.
        classic_overlay: mount as on kernels before 6.5.
        copied_layers: as on kernels before 5.19, see `lowers`.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_facts",
        "_guard",
        "_launcher",
        "_netns_pool",
        "_ranges",
        "_repeats",
        "_warned",
        "classic_overlay",
        "lowers",
        "root",
        "start_seconds",
    )

    def __init__(
        self,
        root: Path,
        *,
        netns_pool: int,
        start_seconds: float = 120.0,
        classic_overlay: bool = False,
        copied_layers: bool = False,
    ) -> None:
        self.root = root
        self.lowers = Lowers(root, copied=copied_layers)
        self._netns_pool = netns_pool
        self.start_seconds = start_seconds
        self.classic_overlay = classic_overlay
        self._closed = False
        self._warned = False
        self._own_nothing()
        _living.add(self)

    def _own_nothing(self) -> None:
        """Begin without a launcher: at first, and in a forked child."""
        self._guard = threading.Lock()
        self._launcher: Launcher | None = None
        self._ranges: Ranges | None = None
        self._facts = HostFacts()
        self._repeats = Repeats()

    def launcher(self) -> tuple[Launcher, HostFacts]:
        """Return this process's launcher, started when there is none or it has died.

        Raises:
            EngineClosed: `close` was called.
        """
        with self._guard:
            if self._closed:
                raise EngineClosed(f"cannot use the engine of {self.root}: it is closed")
            if self._launcher is not None and not self._launcher.alive:
                self._bury(self._launcher)
            if self._launcher is None:
                if not self._warned and userns.is_bare():
                    nested.warn()
                    self._warned = True
                made = Launcher(
                    self.root,
                    netns_pool=self._netns_pool,
                    classic_overlay=self.classic_overlay,
                )
                try:
                    self._facts = facts.gather(made)
                except BaseException:
                    made.close()
                    raise
                self._launcher = made
                self._ranges = Ranges(self.root, made.id)
                self._repeats.clear()
            return self._launcher, self._facts

    def ranges(self) -> Ranges:
        """Return the ids for containers of this process's launcher; see `launcher`."""
        self.launcher()
        assert self._ranges is not None
        return self._ranges

    def bury_the_dead(self) -> None:
        """Forget this process's launcher if it has died, and clear away what it could not."""
        with self._guard:
            if self._launcher is not None and not self._launcher.alive:
                self._bury(self._launcher)

    def bury(self, dead: Launcher) -> None:
        """Forget a launcher that has died, and clear away what it could not."""
        with self._guard:
            self._bury(dead)

    def _bury(self, dead: Launcher) -> None:
        if self._launcher is dead:
            self._launcher = None
            dead.close()
            recover(self.root)

    def close(self) -> None:
        """End the launcher and everything it runs; nothing is started any more.

        What its containers wrote is no longer anybody's then, and is removed as after a crash.
        """
        with self._guard:
            self._closed = True
            launcher, self._launcher = self._launcher, None
            ranges, self._ranges = self._ranges, None
        helper.end()
        if launcher is not None:
            launcher.close()
            self.lowers.close()
            assert ranges is not None
            ranges.close()
            try:
                recover(self.root)
            except HostError:
                if self.root.exists():  # else all of it is gone already
                    raise

    # ---- start

    def compile(
        self,
        image: Startable,
        command: Command | None,
        options: ContainerOptions,
        *,
        streams: tuple[str, ...],
        ephemeral: bool,
        container_id: str | None = None,
        host: HostFacts | None = None,
        park: bool = False,
        ids: IdMap | None = None,
        copy: str | None = "",
    ) -> tuple[str, Plan]:
        """Return the id and the plan of a container, without starting it.

        Args:
            image: what it is made from.
            command: as `Engine.run` takes it.
            options: as the caller gave them.
            streams: those that the caller sends descriptors for.
            ephemeral: nothing of it is left when it has ended; else its directory is there, and
                stays.
            container_id: 64 hexadecimal digits; None: new ones.
            host: facts that hold for the launcher which is to start it; None: for this process's.
            park: nothing is started; what is mounted for it is held for whoever uses its files.
            ids: its range, with userns="auto"; None: that of the kept container, or, for a plan that is
                only read, an example.
            copy: where the copy of its layers lies, if it needs one, "": in its own directory; None: as
                if it needed none.
        """
        check_options(options)  # before any of them is looked into
        if options.get("name") is not None:
            check_name(options["name"])
        host = host or self.launcher()[1]
        identity = container_id or os.urandom(32).hex()
        ids = self._ids(identity, image, options, ids)
        copied = copy is not None and self.lowers.wanted(options, ids) is not None
        where = copy or f"containers/{identity}/{COPY}"
        files = facts.accounts_of(self.root, image._rootfs, bare=host.bare)
        host_network = options.get("network") == "host"
        request = LaunchRequest(
            id=identity,
            image=image.config,
            rootfs=renamed(image._rootfs, where) if copied else image._rootfs,
            command=command,
            options=options,
            passwd=files.passwd,
            group=files.group,
            file_sources=files_among(options.get("mounts") or ()),
            streams=streams,
            ephemeral=ephemeral,
            kept=not ephemeral,
            park=park,
            create=ephemeral and not nested.wants_tree(image._rootfs),
            volatile=options.get("lifetime", "owner") == "owner",
            hosts=host_file("/etc/hosts") if host_network else None,
            resolv_conf=host_file("/etc/resolv.conf") if host_network else None,
            ids=ids,
            copied=self.lowers.reason if copied else None,
            devices=block_devices(options.get("limits")),
            nodes=device_nodes(None if park else options.get("security")),
        )
        return identity, compile_plan(request, host)

    def _ids(
        self, identity: str, image: Startable, options: ContainerOptions, ids: IdMap | None
    ) -> IdMap | None:
        if not wants_range(self.root, options):
            check_own(self.root, options)
            return None
        ids = ids or noted(self.root / "containers" / identity)
        return ids or example(self.shape_of(image, options) or WHOLE)

    def shape_of(self, image: Startable, options: ContainerOptions) -> Shape | None:
        """Return what ids a container's range has inside; None: it gets no range."""
        if not wants_range(self.root, options):
            return None
        if not userns.is_within():
            return WHOLE
        files = facts.accounts_of(self.root, image._rootfs, bare=False)
        user = user_of(options.get("user"), default_user(options, image.config.user))
        identity = resolve_user(user, files.passwd, files.group)
        return shape_of(identity, files.passwd, files.group, alone=is_strict(options))

    def start(
        self,
        image: Startable,
        command: Command | None,
        options: ContainerOptions,
        *,
        streams: Mapping[str, int],
        ephemeral: bool,
    ) -> Started:
        """Compile and start; the launcher takes copies of all descriptors.

        Args:
            image: what to start; its layers are leased by the caller.
            command: as `Engine.run` takes it.
            options: as the caller gave them.
            streams: descriptors for "stdin", "stdout", "stderr"; they stay the caller's to close.
            ephemeral: everything of it goes when it ends.

        Raises:
            ConfigError, MissingFeature, HostError: see `compile_plan`.
            LaunchError: its launcher has died, and the next one too.
        """
        check_options(options)
        for _ in range(2):
            # With new ids, too: those of a launcher that has died are anybody's.
            with contextlib.suppress(LauncherDied):
                return self._start(image, command, options, streams=streams, ephemeral=ephemeral)
        raise LaunchError("cannot start the container: its launcher died twice")

    def _start(
        self,
        image: Startable,
        command: Command | None,
        options: ContainerOptions,
        *,
        streams: Mapping[str, int],
        ephemeral: bool,
    ) -> Started:
        ranges, channel = self.ranges(), None
        shape = self.shape_of(image, options)
        ids = ranges.take(shape) if shape is not None else None
        loan: Loan | None = None
        opened: list[int] = []
        own = os.urandom(32).hex() if nested.wants_tree(image._rootfs) else None

        def let_go() -> None:
            if loan is not None:
                self.lowers.give_back(loan)
            if ids is not None:
                ranges.give_back(ids)
            if own is not None:
                nested.drop(self.root, own)

        try:
            loan = self.lowers.take_for(image._rootfs, options, ids)
            identity, plan, data = self._encoded(
                image,
                command,
                options,
                streams=tuple(streams),
                ephemeral=ephemeral,
                ids=ids,
                copy=loan.where if loan else "",
                own=own,
            )
            inputs = [
                streams[item.kind]
                if item.kind in streams
                else open_input(self.root, item, options, opened)
                for item in plan.inputs
            ]
            launcher = self.launcher()[0]
            if ids is not None and self._ranges is not ranges:
                raise LauncherDied
            if own is not None:
                nested.make_for_run(self.root, own, launcher.id, image._rootfs, options)
            try:
                channel = launcher.start(data, inputs)
            except (BrokenPipeError, ConnectionResetError) as error:
                self.bury(launcher)  # its socket has closed, its end may take a moment yet
                raise LauncherDied from error
        finally:
            for fd in opened:
                os.close(fd)
            if channel is None:
                let_go()
        return Started(identity, plan, channel, let_go, launcher)

    def _encoded(
        self,
        image: Startable,
        command: Command | None,
        options: ContainerOptions,
        *,
        streams: tuple[str, ...],
        ephemeral: bool,
        ids: IdMap | None,
        copy: str,
        own: str | None,
    ) -> tuple[str, Plan, bytes]:
        """Return id, plan and encoded plan; a repeated plan shows the stand-in as its id."""

        def compiled(identity: str | None) -> tuple[str, Plan]:
            return self.compile(
                image,
                command,
                options,
                streams=streams,
                ephemeral=ephemeral,
                container_id=identity,
                ids=ids,
                copy=copy,
            )

        key = key_of(image, command, options, streams) if ephemeral and own is None else None
        if key is None:
            identity, plan = compiled(own)
            return identity, plan, plan.encode()
        self.launcher()  # a new one forgets what was compiled for another
        key = key, ids, copy
        identity = os.urandom(32).hex()
        found = self._repeats.find(key, identity)
        if found is None:
            self._repeats.remember(key, compiled(STAND_IN)[1])
            found = self._repeats.find(key, identity)
            assert found is not None
        return identity, *found


# ---- forks


def _forked() -> None:
    for runner in _living:
        runner._own_nothing()
        runner.lowers.own_nothing()


os.register_at_fork(after_in_child=_forked)
