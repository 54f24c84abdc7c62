"""The root of a container that does not run, mounted while somebody uses its files.

Owns: one parked child for each container whose files this process uses, shared by all who do at the
same time, ended with the last of them.  While there is one nothing can start or remove the
container: it waits.  Neighbours: `contents` decides when, `begin` has the lock.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from containerkit.errors import HostError
from containerkit.runtime import begin, packets
from containerkit.runtime.birth import Kept
from containerkit.runtime.contents import open_root
from containerkit.runtime.failure import launch_error, was_stillborn
from containerkit.runtime.inputs import open_input
from containerkit.runtime.lowers import MustCopy

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan
    from containerkit.model.options import ContainerOptions
    from containerkit.runtime.channel import Channel
    from containerkit.runtime.handle import Handle
    from containerkit.runtime.launcher import Launcher

_TRIES: Final = 2

_guard = threading.Lock()
_shared: dict[tuple[str, str], _Parked] = {}
_parents: list[_Parked] = []
"""In a forked child: what is not ours to undo, also not by being collected."""

_STILL: Final = ("created", "stopped")


class _Parked:
    """A parked child of one container.

    Attributes:
        users: how many use it, or are about to.
        root: an O_PATH descriptor of its root; -1 before it is there.
        lock: held by the one who mounts it.
    """

    def __init__(self) -> None:
        self.users = 0
        self.root = -1
        self.lock = threading.Lock()
        self._kept = ExitStack()

    def mount(self, container: Handle) -> None:
        keeper = container._keeper
        with ExitStack() as stack:
            stack.enter_context(begin.Operation(keeper, container.id))
            container._require("mount the files of", *_STILL)
            kept = Kept.of(container._read_row())
            stack.enter_context(begin.leased(keeper, kept))
            begin.make_remountable(keeper, container.id)
            self.root = stack.enter_context(_mounted(container, kept))
            self._kept = stack.pop_all()

    def unmount(self) -> None:
        self.root = -1
        self._kept.close()


@contextmanager
def parked(container: Handle) -> Iterator[int]:
    """Give the root of a container that is created or stopped.

    Raises:
        InvalidStatus: it runs, or was removed.
        LaunchError, ConfigError, MissingFeature: it can not be mounted.

    Blocking: while another process starts it, removes it or uses its files, at most `begin.LOCK_SECONDS`.
    """
    key = str(container._keeper.root), container.id
    with _guard:
        mine = _shared.setdefault(key, _Parked())
        mine.users += 1
    try:
        with mine.lock:
            if mine.root < 0:
                mine.mount(container)
        yield mine.root
    finally:
        with _guard:
            mine.users -= 1
            last = mine.users == 0
            if last and _shared.get(key) is mine:
                del _shared[key]
        if last:
            mine.unmount()


@contextmanager
def _mounted(container: Handle, kept: Kept) -> Iterator[int]:
    """Have the launcher mount it; ended at the end."""
    keeper = container._keeper
    # What its secrets hold only the process that created it may know: they are not mounted.
    options: ContainerOptions = {**kept.options}
    options.pop("secrets", None)
    while True:
        plan = keeper.runner.compile(
            kept,
            kept.command,
            options,
            streams=(),
            ephemeral=False,
            container_id=container.id,
            park=True,
        )[1]
        keeper.runner.lowers.keep_for(keeper.directory(container.id), kept.rootfs, options)
        with suppress(MustCopy):
            channel, pidfd = _started(container, plan, options)
            break
    try:
        try:
            root = open_root(pidfd)
        finally:
            os.close(pidfd)
        if root is None:
            raise HostError(f"cannot reach the files of container {container.id[:12]}: it ended")
        try:
            yield root
        finally:
            os.close(root)
    finally:
        channel.finish()


def _send(container: Handle, plan: Plan, options: ContainerOptions) -> tuple[Channel, Launcher]:
    runner = container._keeper.runner
    opened: list[int] = []
    try:
        inputs = [open_input(runner.root, item, options, opened) for item in plan.inputs]
        launcher = runner.launcher()[0]
        try:
            return launcher.start(plan.encode(), inputs), launcher
        except (BrokenPipeError, ConnectionResetError):  # it died since: once more, with a new
            runner.bury(launcher)
            launcher = runner.launcher()[0]
            return launcher.start(plan.encode(), inputs), launcher
    finally:
        for fd in opened:
            os.close(fd)


def _started(container: Handle, plan: Plan, options: ContainerOptions) -> tuple[Channel, int]:
    """Wait until it is mounted; return the channel and the pidfd of the child."""
    keeper = container._keeper
    deadline = time.monotonic() + begin.PEEK_SECONDS
    failed = 0
    while failed < _TRIES:
        channel, launcher = _send(container, plan, options)
        event, fds = None, list[int]()
        try:
            event, fds = channel.started(
                keeper.runner.start_seconds, is_unheard=launcher.is_unheard
            )
            if event is not None and event.kind == packets.STARTED and len(fds) == 1:
                return channel, fds.pop()
        finally:
            for fd in fds:
                os.close(fd)
        if event is None:
            keeper.runner.bury_the_dead()
        elif keeper.runner.lowers.refused(plan, event):
            raise MustCopy
        elif event.kind == packets.FAILED and not was_stillborn(event):
            if not begin.waited_for_lock(keeper, container.id, event, deadline):
                raise launch_error(plan, event)
            continue
        failed += 1
    raise HostError("cannot mount the container's files: its launcher died, or can not answer")


def _forked() -> None:
    global _guard
    _guard = threading.Lock()
    _parents.extend(_shared.values())
    _shared.clear()


os.register_at_fork(after_in_child=_forked)
