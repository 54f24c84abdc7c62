"""Start a container that is kept, for the first time or again.

Owns: who may start it, on what it hangs from then on, the second try when a launcher has died, and
what is left of a start that fails: the container as it was before.
Flow: `Container.start`, `Engine.start` → here → a launcher: this process's for an owner's
container, one of its own (`supervise`) for a detached one.

While it starts, the directory's own lock is held, so that of two starters or removers one waits;
the start lock proper is the launcher's, on the record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError, ContainerNotFound, ImageNotFound, LaunchError, Timeout
from containerkit.launch.ops import Code
from containerkit.model.digest import Digest
from containerkit.runtime import facts, idranges, marks, nested, packets, supervise
from containerkit.runtime.birth import Kept
from containerkit.runtime.failure import launch_error, was_stillborn
from containerkit.runtime.inputs import open_input
from containerkit.runtime.lowers import MustCopy
from containerkit.runtime.recover import write_record
from containerkit.runtime.starts import LauncherDied
from containerkit.state import record
from containerkit.state.atomic import remove_tree
from containerkit.state.lock import FileLock, Holding

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan
    from containerkit.launch.request import HostFacts
    from containerkit.model.options import ContainerOptions
    from containerkit.runtime.birth import Born
    from containerkit.runtime.keeper import Keeper
    from containerkit.runtime.launcher import Launcher
    from containerkit.runtime.packets import Event
    from containerkit.runtime.records import Row

LOCK_SECONDS: Final = 25.0
"""How long one operation on a container waits for another: a start or a removal."""

PEEK_SECONDS: Final = 10.0
"""And a start for those who hold its start lock meanwhile: see `waited_for_lock`."""


class Operation(Holding):
    """Be the only one that starts or removes a container meanwhile.

    Raises:
        ContainerNotFound: it was removed.
        Timeout: another operation did not end.
    """

    __slots__ = ("_identity",)

    def __init__(self, keeper: Keeper, identity: str) -> None:
        lock = FileLock(keeper.directory(identity), directory=True)
        super().__init__(lock, time.monotonic() + LOCK_SECONDS)
        self._identity = identity

    def __enter__(self) -> None:
        try:
            super().__enter__()
        except FileNotFoundError as error:
            raise ContainerNotFound(
                f"cannot find container {self._identity[:12]}: it was removed"
            ) from error
        except BaseException:
            self._lock.release()
            raise


def begin(
    keeper: Keeper, row: Row, *, born: Born | None = None, made: list[Launcher] | None = None
) -> None:
    """Start a container that is created or stopped; the caller holds its `Operation`.

    Args:
        keeper: of the engine.
        row: of the container.
        born: what its creation found out, if that was just now.
        made: a launcher for it, if it is detached; taken from here when it is used.

    Raises:
        LaunchError: it could not be started; it is as it was before.
        Timeout: nor was it within `EngineConfig.start_timeout`.
        ConfigError, MissingFeature: an option has no meaning any more, or not here.
    """
    kept = born.kept if born else Kept.of(row)
    options = _with_secrets(keeper, row, kept.options)
    with leased(keeper, kept), _record_restored(keeper, row.id):
        if idranges.wants_range(keeper.root, options):
            idranges.hold(keeper.root, row.id)
        make_remountable(keeper, row.id)
        if nested.wants_tree(kept.rootfs):
            nested.make_tree(keeper.root, keeper.directory(row.id), kept.rootfs, options)
        again = False
        while True:
            try:
                if row.lifetime == "detached" or row.shared is not None:
                    _begin_apart(keeper, row, kept, options, born, made or [])
                else:
                    _begin_here(keeper, row, kept, options, None if again else born)
            except MustCopy:
                born = None
            except LauncherDied as error:
                if again:
                    raise LaunchError(
                        "cannot start the container: its launcher died twice"
                    ) from error
                again = True
            else:
                return


@contextmanager
def _record_restored(keeper: Keeper, identity: str) -> Iterator[None]:
    """Let a failed start leave the record that was there: launchers write theirs first."""
    directory = keeper.directory(identity)
    before = record.read(directory)
    try:
        yield
    except BaseException as error:
        lock = FileLock(directory / record.NAME)
        # Held: this call was interrupted, and the start goes on, or another one.
        with contextlib.suppress(OSError):
            if lock.try_acquire():
                record.write(lock.path, before)
        lock.release()
        if isinstance(error, LaunchError) and marks.read(directory) is None:
            raise ContainerNotFound(  # what it hung on had died, and somebody cleared it away
                f"cannot find container {identity[:12]}: it was removed"
            ) from error
        raise


# ---- in whose launcher


def _begin_here(
    keeper: Keeper, row: Row, kept: Kept, options: ContainerOptions, born: Born | None
) -> None:
    launcher, host = keeper.runner.launcher()
    mark = marks.owner_mark(launcher.id)
    if marks.read(keeper.directory(row.id)) != mark:
        _hang(keeper, row.id, mark)
    if row.owner != launcher.id:
        keeper.records.own(row.id, launcher.id)
    plan = born.plan if born and born.launcher is launcher else None
    try:
        _send(keeper, row, kept, options, launcher, host, plan)
    except LauncherDied:
        # With its launcher the container would be cleared away as well: it hangs on this process,
        # until the next try hangs it on another launcher.
        with _hung_on_us(keeper, row.id):
            keeper.runner.bury(launcher)
            _hang(keeper, row.id, marks.owner_mark(keeper.runner.launcher()[0].id))
        raise


def _hang(keeper: Keeper, identity: str, mark: str) -> None:
    """Give it another mark.

    Raises:
        ContainerNotFound: what it hung on has died, and it was removed with that.
    """
    directory = keeper.directory(identity)
    try:
        marks.write(directory, mark)
    except FileNotFoundError as error:
        raise ContainerNotFound(f"cannot find container {identity[:12]}: it was removed") from error


@contextmanager
def _hung_on_us(keeper: Keeper, identity: str) -> Iterator[None]:
    name = os.urandom(12).hex()
    held = write_record(keeper.root, name, ())
    try:
        _hang(keeper, identity, marks.owner_mark(name))
        yield
    finally:
        held.release(unlink=True)


def _begin_apart(
    keeper: Keeper,
    row: Row,
    kept: Kept,
    options: ContainerOptions,
    born: Born | None,
    made: list[Launcher],
) -> None:
    directory = keeper.directory(row.id)
    shared = row.id if row.shared is not None else None
    launcher = made.pop() if made else supervise.spawn(keeper, options, shared=shared)
    try:
        if row.shared is not None:
            _hang(keeper, row.id, marks.owner_mark(launcher.id))
        holds = born is not None and supervise.plan_holds(born.launcher, launcher, options)
        plan = born.plan if born and holds else None
        host = None if plan else facts.gather(launcher)
        _send(keeper, row, kept, options, launcher, host, plan)
        mark = marks.read(directory)
        if row.shared is None and (mark is None or marks.owner_of(mark) is not None):
            _hang(keeper, row.id, marks.detached_mark())
        launcher.leave(owned=row.shared is not None)
    except BaseException:
        launcher.close()
        raise


# ---- one try


def _send(
    keeper: Keeper,
    row: Row,
    kept: Kept,
    options: ContainerOptions,
    launcher: Launcher,
    host: HostFacts | None,
    plan: Plan | None,
) -> None:
    """Have a launcher start it as soon as it is set up, and wait until the command runs."""
    if plan is None:
        plan = keeper.runner.compile(
            kept,
            kept.command,
            options,
            streams=(),
            ephemeral=False,
            container_id=row.id,
            host=host,
        )[1]
    keeper.runner.lowers.keep_for(keeper.directory(row.id), kept.rootfs, options)
    launcher.await_ready()
    deadline = time.monotonic() + PEEK_SECONDS
    stillborn = 0
    while True:
        event = _try(plan, options, launcher, keeper.runner.start_seconds)
        if event is None:
            _require_running(keeper, row.id, launcher)
            return
        if event.kind == packets.STARTED:
            return
        if keeper.runner.lowers.refused(plan, event):
            raise MustCopy
        stillborn += was_stillborn(event)
        if was_stillborn(event) and stillborn == 1:
            continue
        if not waited_for_lock(keeper, row.id, event, deadline):
            raise launch_error(plan, event)


def waited_for_lock(keeper: Keeper, identity: str, event: Event, deadline: float) -> bool:
    """Wait for the start lock, if that is what a start failed for: it is to be tried again then.

    Somebody looks whether the container is supervised, or its last end is not all over yet: what a
    launcher clones has, for its first moments, all that the launcher has.

    Returns:
        False: it is another failure, or the deadline is over.
    """
    if (event.code, event.errnum) != (Code.LOCK, errno.EAGAIN) or time.monotonic() > deadline:
        return False
    lock = FileLock(keeper.directory(identity) / record.NAME, shared=True)
    with contextlib.suppress(Timeout):
        lock.acquire(deadline=deadline).release()
    return True


def _require_running(keeper: Keeper, identity: str, launcher: Launcher) -> None:
    """See in the record whether a start that the launcher could not answer has succeeded.

    Raises:
        LauncherDied: that is why.
        LaunchError: it has not.
    """
    if not launcher.alive:
        raise LauncherDied
    state = record.read(keeper.directory(identity))
    if state is None or not state.is_live or state.launcher != launcher.id:
        raise LaunchError(
            "cannot start the container: its launcher can not answer",
            hint="the host, or this process's limit, has no memory left",
        )


def _try(
    plan: Plan, options: ContainerOptions, launcher: Launcher, seconds: float
) -> packets.Event | None:
    """Wait for STARTED or FAILED, None: neither will come; interrupted, it is killed."""
    opened: list[int] = []
    try:
        inputs = [open_input(launcher.root, item, options, opened) for item in plan.inputs]
        channel = launcher.start(plan.encode(), inputs)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise LauncherDied from error
    finally:
        for fd in opened:
            os.close(fd)
    event, fds = channel.started(seconds, is_unheard=launcher.is_unheard)
    for fd in fds:
        os.close(fd)
    channel.close()
    return event


# ---- what it needs


def _with_secrets(keeper: Keeper, row: Row, options: ContainerOptions) -> ContainerOptions:
    wanted = options.get("secrets") or {}
    if not any(value is None for value in wanted.values()):
        return options
    known = keeper.secrets.get(row.id)
    if known is None:
        raise ConfigError(
            f"cannot start container {row.id[:12]}: the contents of its secrets are known to the"
            " process that created it only",
            hint="give secrets as paths",
        )
    return {**options, "secrets": known}


@contextmanager
def leased(keeper: Keeper, kept: Kept) -> Iterator[None]:
    """Make sure that its layers are whole, and keep them; an image's end does not take them."""
    if not kept.chain_ids:
        for lower in getattr(kept.rootfs.mounts[0], "lowers", ()):
            if not (keeper.root / lower).exists():
                raise ImageNotFound(
                    f"cannot start the container: {lower} of its host image was removed"
                )
        yield
        return
    images = keeper.stores.images
    try:
        lease = images._lease(images.get(kept.digest))
    except ImageNotFound:
        lease = images._snapshots.lease([Digest.parse(one) for one in kept.chain_ids])
    with lease:
        yield


def make_remountable(keeper: Keeper, identity: str) -> None:
    """Let an upper of an earlier run be mounted again.

    The kernel marks the work directory of a volatile overlay, so that nobody trusts it after a
    crash of the host; this is the same boot, or the container would be gone.  Spec: overlayfs,
    Volatile mount.
    """
    # The launcher may be clearing away what it held of the last run: what vanishes is fine.
    for place, directories, _files in os.walk(keeper.directory(identity) / "work"):
        if "incompat" in directories:
            remove_tree(Path(place) / "incompat")
